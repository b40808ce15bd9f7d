/*
 * The state file of the lab's mock NVML: what the simulated GPUs of this host are like at this moment.
 *
 * /var/lib/lab-gpu/state.ini (LAB_GPU_STATE names another), read afresh at every call, holds lines `key = value`; the
 * last of equal keys counts, `#` starts a comment. Keys of the host: count, driver_version, cuda_version (12020 is
 * 12.2), hang (1: every call blocks until it is 0 again). Keys of a GPU start with `gpu0.`; lab/hardware/gpus.py writes
 * and lists them. `error.FUNCTION = 9` or `gpu2.error.FUNCTION = 15` make a function return that NVML status.
 */
#ifndef LAB_GPU_STATE_H
#define LAB_GPU_STATE_H

#include <stddef.h>

#pragma GCC visibility push(hidden) /* the library shows NVML's names only */

#define VALUE_SIZE 512
#define NO_GPU (-1) /* for keys of the host */

/* NVML's own return codes (nvml.h), those that are given here. */
enum status {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    GPU_IS_LOST = 15,
    UNKNOWN = 999
};

struct state {
    char *text;
};

/* Reads the file, waiting while `hang` is set. DRIVER_NOT_LOADED where there is none. Close it in any case. */
int state_open(struct state *state);
void state_close(struct state *state);

/* Copies the value of a key; 0 where there is no such key. */
int state_find(const struct state *state, int gpu, const char *key, char value[VALUE_SIZE]);

/* A key that must be there: UNKNOWN where it is not, or is no number. */
int state_text(const struct state *state, int gpu, const char *key, char value[VALUE_SIZE]);
int state_number(const struct state *state, int gpu, const char *key, double *value);

/* The injected status of a function, OK where there is none. */
int state_injected(const struct state *state, int gpu, const char *function);

/* Sets a key of a GPU in the file, atomically. */
int state_set(int gpu, const char *key, const char *value);

#pragma GCC visibility pop

#endif
