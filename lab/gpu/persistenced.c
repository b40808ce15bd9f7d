/*
 * Lab stand-in for nvidia-persistenced: keeps persistence mode on, through NVML, while it runs.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

extern int nvmlInit_v2(void);
extern int nvmlShutdown(void);
extern int nvmlDeviceGetCount_v2(unsigned int *count);
extern int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device);
extern int nvmlDeviceSetPersistenceMode(void *device, unsigned int mode);
extern const char *nvmlErrorString(int status);

static int set_all(unsigned int mode)
{
    unsigned int count = 0;
    int status = nvmlDeviceGetCount_v2(&count);
    for (unsigned int index = 0; index < count && status == 0; index++) {
        void *device;
        status = nvmlDeviceGetHandleByIndex_v2(index, &device);
        if (status == 0)
            status = nvmlDeviceSetPersistenceMode(device, mode);
    }
    return status;
}

int main(int argc, char **argv)
{
    sigset_t ending;
    int status, received;
    if (argc > 1) {
        puts("nvidia-persistenced: lab stand-in; takes no options, runs in the foreground until SIGTERM");
        return strcmp(argv[1], "--help") != 0;
    }
    sigemptyset(&ending);
    sigaddset(&ending, SIGTERM);
    sigaddset(&ending, SIGINT);
    sigprocmask(SIG_BLOCK, &ending, NULL);
    status = nvmlInit_v2();
    if (status == 0)
        status = set_all(1);
    if (status != 0) {
        fprintf(stderr, "nvidia-persistenced: persistence mode cannot be set: %s\n", nvmlErrorString(status));
        return 1;
    }
    sigwait(&ending, &received);
    set_all(0);
    nvmlShutdown();
    return 0;
}
