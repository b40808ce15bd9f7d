/*
 * What every NVML function of the mock is made of: begin a call, read keys of the state, end the call.
 */
#ifndef LAB_GPU_CALL_H
#define LAB_GPU_CALL_H

#include "state.h"

#include <stdatomic.h>

#define MAX_GPUS 16

typedef unsigned int uint;
typedef unsigned long long ulonglong;
typedef struct device *device_t; /* opaque: the index plus one */

#pragma GCC visibility push(hidden)

extern atomic_int initialised; /* how many nvmlInit calls have no nvmlShutdown yet */

/* One call: its state and GPU. */
struct call {
    struct state state;
    int gpu;
};

/* Begin a call about the host or a GPU; on any status but OK there is nothing to end. */
int call_host(struct call *call, const char *function);
int call_gpu(struct call *call, device_t device, const char *function);
int call_end(struct call *call, int status);

int gpu_count(const struct state *state);

/*
 * In a container, NVIDIA_VISIBLE_DEVICES lists the GPUs that it holds. With the real driver it is the container runtime
 * that leaves out the device files of others, and NVML numbers what is left in the same order; here NVML does both.
 * Unset or "all" are all of them; empty, "void" and "none" are none.
 */
int gpu_visible(const struct state *state, int gpu);
int visible_before(const struct state *state, int gpu); /* how many visible ones come before it: its index */
int visible_at(const struct state *state, uint index);  /* NO_GPU where there are not so many */

/* Copies to a caller's buffer; INSUFFICIENT_SIZE where it does not fit. */
int copy(char *out, uint size, const char *text);

/* Whole calls that hand out one key. */
int system_text(const char *function, const char *key, char *out, uint size);
int device_text(device_t device, const char *function, const char *key, char *out, uint size);
int device_number(device_t device, const char *function, const char *key, double *out);
int device_uint(device_t device, const char *function, const char *key, double factor, uint *out);
int device_ulonglong(device_t device, const char *function, const char *key, ulonglong *out);

#pragma GCC visibility pop

#endif
