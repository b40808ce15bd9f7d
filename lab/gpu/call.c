#define _GNU_SOURCE
#include "call.h"

#include <string.h>

atomic_int initialised;

int gpu_count(const struct state *state)
{
    double count = 0;
    state_number(state, NO_GPU, "count", &count);
    return count > MAX_GPUS ? MAX_GPUS : (int)count;
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
