/*
 * What the lab's nvidia-smi is made of: the fields that it can show of a GPU, and the NVML that it asks.
 */
#ifndef LAB_GPU_SMI_H
#define LAB_GPU_SMI_H

#define TEXT_SIZE 512
#define MAX_GPUS 16
#define MAX_PROCESSES 16

typedef unsigned int uint;
typedef unsigned long long ulonglong;
typedef struct device *device_t;

struct process { uint pid; ulonglong used_bytes; uint gpu_instance, compute_instance; };

extern int nvmlInit_v2(void);
extern const char *nvmlErrorString(int status);
extern int nvmlSystemGetDriverVersion(char *out, uint size);
extern int nvmlSystemGetCudaDriverVersion_v2(int *out);
extern int nvmlSystemGetProcessName(uint pid, char *out, uint size);
extern int nvmlDeviceGetCount_v2(uint *out);
extern int nvmlDeviceGetHandleByIndex_v2(uint index, device_t *out);
extern int nvmlDeviceGetComputeRunningProcesses_v3(device_t device, uint *count, struct process *out);
extern int nvmlDeviceSetPersistenceMode(device_t device, uint mode);

/* One thing to tell of a GPU: its name, how it is read (an NVML status), its unit. */
struct field {
    const char *name;
    int (*read)(device_t gpu, char out[TEXT_SIZE]);
    const char *unit;
};

/* NULL where nvidia-smi has no such field, or the lab has not. */
const struct field *field_named(const char *name);

/* As nvidia-smi prints it; what cannot be read is told in brackets. */
void field_value(const struct field *field, device_t gpu, int with_unit, char out[TEXT_SIZE]);

/* The same, with unit, in a buffer that later calls use again: the last eight stay. */
const char *value_of(const char *name, device_t gpu);

/* The GPUs that are asked about. */
extern device_t gpus[MAX_GPUS];
extern uint gpu_total;

/* Ends the program where a call failed that everything depends on. */
void must(int status);

/* Texts that any form shows; CUDA's version as it is written, 12.2. */
const char *cuda_version(void);
const char *driver_version(void);
const char *now(void);

uint processes_of(device_t gpu, struct process *found);
const char *process_name(uint pid);
void print_xml(void);

#endif
