/*
 * Lab stand-in for NVIDIA's libnvidia-ml.so.1: answers NVML calls from a state file (state.h) instead of a driver.
 * Here: the library itself, the host, and finding GPUs; device.c: what a GPU answers.
 * Signatures, structures and return codes are those of nvml.h, as the real pynvml declares them.
 */
#define _GNU_SOURCE
#include "call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

int nvmlInitWithFlags(uint flags)
{
    struct state state = {NULL};
    int status = state_open(&state);
    (void)flags;
    if (status == OK)
        status = state_injected(&state, NO_GPU, "nvmlInitWithFlags");
    state_close(&state);
    if (status == OK)
        initialised++;
    return status;
}

int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlInit(void) { return nvmlInitWithFlags(0); }

int nvmlShutdown(void)
{
    int count = initialised;
    while (count > 0)
        if (atomic_compare_exchange_weak(&initialised, &count, count - 1))
            return OK;
    return UNINITIALIZED;
}

const char *nvmlErrorString(int status)
{
    static const struct { int status; const char *text; } known[] = {
        {OK, "Success"}, {UNINITIALIZED, "Uninitialized"}, {INVALID_ARGUMENT, "Invalid Argument"},
        {NOT_SUPPORTED, "Not Supported"}, {4, "Insufficient Permissions"}, {NOT_FOUND, "Not Found"},
        {INSUFFICIENT_SIZE, "Insufficient Size"}, {DRIVER_NOT_LOADED, "Driver Not Loaded"}, {10, "Timeout"},
        {13, "Function Not Found"}, {GPU_IS_LOST, "GPU is lost"}, {16, "GPU requires restart"},
        {17, "The operating system has blocked the request"}, {18, "RM has detected an NVML/RM version mismatch"},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (known[i].status == status)
            return known[i].text;
    return "Unknown Error";
}

int nvmlSystemGetDriverVersion(char *out, uint size)
{
    return system_text(__func__, "driver_version", out, size);
}

int nvmlSystemGetNVMLVersion(char *out, uint size)
{
    char version[VALUE_SIZE], text[VALUE_SIZE + 8];
    int status = system_text(__func__, "driver_version", version, sizeof version);
    snprintf(text, sizeof text, "12.%s", version);
    return status == OK ? copy(out, size, text) : status;
}

static int cuda_version(const char *function, int *out)
{
    char value[VALUE_SIZE];
    int status = out ? system_text(function, "cuda_version", value, sizeof value) : INVALID_ARGUMENT;
    if (status == OK)
        *out = atoi(value);
    return status;
}

int nvmlSystemGetCudaDriverVersion(int *out) { return cuda_version(__func__, out); }
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return cuda_version(__func__, out); }

static int device_count(const char *function, uint *out)
{
    struct call call;
    int status = out ? call_host(&call, function) : INVALID_ARGUMENT;
    if (status != OK)
        return status;
    *out = (uint)visible_before(&call.state, gpu_count(&call.state));
    return call_end(&call, OK);
}

int nvmlDeviceGetCount_v2(uint *out) { return device_count(__func__, out); }
int nvmlDeviceGetCount(uint *out) { return device_count(__func__, out); }

int nvmlDeviceGetHandleByIndex_v2(uint index, device_t *out)
{
    struct call call;
    int gpu, status = out && index < MAX_GPUS ? call_host(&call, __func__) : INVALID_ARGUMENT;
    if (status != OK)
        return status;
    gpu = visible_at(&call.state, index);
    status = gpu != NO_GPU ? state_injected(&call.state, gpu, __func__) : INVALID_ARGUMENT;
    if (status == OK)
        *out = (device_t)(size_t)(gpu + 1);
    return call_end(&call, status);
}

int nvmlDeviceGetHandleByIndex(uint index, device_t *out) { return nvmlDeviceGetHandleByIndex_v2(index, out); }

static int handle_by(const char *function, const char *key, const char *wanted, device_t *out)
{
    struct call call;
    char value[VALUE_SIZE];
    int found = NOT_FOUND;
    int status = out && wanted ? call_host(&call, function) : INVALID_ARGUMENT;
    if (status != OK)
        return status;
    for (int gpu = gpu_count(&call.state) - 1; gpu >= 0; gpu--)
        if (gpu_visible(&call.state, gpu) && state_find(&call.state, gpu, key, value) &&
            strcasecmp(value, wanted) == 0) {
            *out = (device_t)(size_t)(gpu + 1);
            found = OK;
        }
    return call_end(&call, found);
}

int nvmlDeviceGetHandleByUUID(const char *uuid, device_t *out) { return handle_by(__func__, "uuid", uuid, out); }
int nvmlDeviceGetHandleBySerial(const char *serial, device_t *out)
{
    return handle_by(__func__, "serial", serial, out);
}
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, device_t *out)
{
    return handle_by(__func__, "pci_bus_id", bus_id, out);
}

int nvmlDeviceGetIndex(device_t device, uint *out)
{
    struct call call;
    int status = out ? call_gpu(&call, device, __func__) : INVALID_ARGUMENT;
    if (status != OK)
        return status;
    *out = (uint)visible_before(&call.state, call.gpu);
    return call_end(&call, OK);
}
