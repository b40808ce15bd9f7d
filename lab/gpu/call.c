#define _GNU_SOURCE
#include "call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

atomic_int initialised;

int gpu_count(const struct state *state)
{
    double count = 0;
    state_number(state, NO_GPU, "count", &count);
    return count > MAX_GPUS ? MAX_GPUS : (int)count;
}

/* Whether a list of UUIDs and indices, separated by commas, has this one. */
static int listed(const char *list, const char *uuid, const char *index)
{
    while (*list) {
        size_t length = strcspn(list, ",");
        if ((length == strlen(uuid) && strncasecmp(list, uuid, length) == 0) ||
            (length == strlen(index) && strncmp(list, index, length) == 0))
            return 1;
        list += length + (list[length] == ',');
    }
    return 0;
}

int gpu_visible(const struct state *state, int gpu)
{
    char uuid[VALUE_SIZE], index[16];
    const char *list = getenv("NVIDIA_VISIBLE_DEVICES");
    if (!list || strcmp(list, "all") == 0)
        return 1;
    snprintf(index, sizeof index, "%d", gpu);
    return state_find(state, gpu, "uuid", uuid) && listed(list, uuid, index);
}

int visible_before(const struct state *state, int gpu)
{
    int count = 0;
    for (int each = 0; each < gpu; each++)
        count += gpu_visible(state, each);
    return count;
}

int visible_at(const struct state *state, uint index)
{
    int count = gpu_count(state);
    for (int gpu = 0; gpu < count; gpu++)
        if (gpu_visible(state, gpu) && index-- == 0)
            return gpu;
    return NO_GPU;
}

int call_end(struct call *call, int status)
{
    state_close(&call->state);
    return status;
}

int call_host(struct call *call, const char *function)
{
    int status;
    call->gpu = NO_GPU;
    if (!initialised)
        return UNINITIALIZED;
    status = state_open(&call->state);
    if (status == OK)
        status = state_injected(&call->state, NO_GPU, function);
    return status == OK ? OK : call_end(call, status);
}

int call_gpu(struct call *call, device_t device, const char *function)
{
    int gpu = (int)(size_t)device - 1;
    int status;
    if (initialised && (gpu < 0 || gpu >= MAX_GPUS))
        return INVALID_ARGUMENT;
    status = call_host(call, function);
    if (status != OK)
        return status;
    call->gpu = gpu;
    status = gpu < gpu_count(&call->state) ? state_injected(&call->state, gpu, function) : GPU_IS_LOST;
    return status == OK ? OK : call_end(call, status);
}

int copy(char *out, uint size, const char *text)
{
    if (!out)
        return INVALID_ARGUMENT;
    if (strlen(text) >= size)
        return INSUFFICIENT_SIZE;
    strcpy(out, text);
    return OK;
}

int device_text(device_t device, const char *function, const char *key, char *out, uint size)
{
    struct call call;
    char value[VALUE_SIZE];
    int status = call_gpu(&call, device, function);
    if (status != OK)
        return status;
    status = state_text(&call.state, call.gpu, key, value);
    return call_end(&call, status == OK ? copy(out, size, value) : status);
}

int device_number(device_t device, const char *function, const char *key, double *out)
{
    struct call call;
    int status = call_gpu(&call, device, function);
    return status == OK ? call_end(&call, state_number(&call.state, call.gpu, key, out)) : status;
}

int device_uint(device_t device, const char *function, const char *key, double factor, uint *out)
{
    double value;
    int status = out ? device_number(device, function, key, &value) : INVALID_ARGUMENT;
    if (status == OK)
        *out = (uint)(value * factor + 0.5);
    return status;
}

int device_ulonglong(device_t device, const char *function, const char *key, ulonglong *out)
{
    double value;
    int status = out ? device_number(device, function, key, &value) : INVALID_ARGUMENT;
    if (status == OK)
        *out = (ulonglong)value;
    return status;
}

int system_text(const char *function, const char *key, char *out, uint size)
{
    struct call call;
    char value[VALUE_SIZE];
    int status = call_host(&call, function);
    if (status != OK)
        return status;
    status = state_text(&call.state, NO_GPU, key, value);
    return call_end(&call, status == OK ? copy(out, size, value) : status);
}
