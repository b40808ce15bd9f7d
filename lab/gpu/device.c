/*
 * NVML functions about one GPU; see nvml.c.
 */
#define _GNU_SOURCE
#include "call.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PROCESSES 16
#define NVLINKS 12 /* of an A100 */
#define NO_INSTANCE 0xFFFFFFFFu
#define MEMORY_V2 0x02000028u
#define TEMPERATURE_V1 0x0100000Cu

struct memory { ulonglong total, free, used; };
struct memory_v2 { uint version; ulonglong total, reserved, free, used; };
struct utilization { uint gpu, memory; };
struct temperature { uint version, sensor; int celsius; };
struct process { uint pid; ulonglong used_bytes; uint gpu_instance, compute_instance; };
struct pci {
    char bus_id_legacy[16];
    uint domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};

/* Getters that only hand out one value. */
#define TEXT(function, key) \
    int function(device_t device, char *out, uint size) { return device_text(device, #function, key, out, size); }
#define NUMBER(function, key, factor) \
    int function(device_t device, uint *out) { return device_uint(device, #function, key, factor, out); }
#define MASK(function, key) \
    int function(device_t device, ulonglong *out) { return device_ulonglong(device, #function, key, out); }

TEXT(nvmlDeviceGetName, "name")
TEXT(nvmlDeviceGetUUID, "uuid")
TEXT(nvmlDeviceGetSerial, "serial")
TEXT(nvmlDeviceGetVbiosVersion, "vbios")
TEXT(nvmlDeviceGetBoardPartNumber, "part_number")
NUMBER(nvmlDeviceGetMinorNumber, "minor", 1)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation", 1)
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width", 1)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_generation_max", 1)
NUMBER(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie_generation_max", 1)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, "pcie_width_max", 1)
NUMBER(nvmlDeviceGetPcieReplayCounter, "pcie_replays", 1)
NUMBER(nvmlDeviceGetPersistenceMode, "persistence", 1)
NUMBER(nvmlDeviceGetPowerManagementLimit, "power_limit_w", 1000)
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "power_limit_w", 1000)
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "power_default_limit_w", 1000)
NUMBER(nvmlDeviceGetPowerUsage, "power_w", 1000)
NUMBER(nvmlDeviceGetComputeMode, "compute_mode", 1)
NUMBER(nvmlDeviceGetPerformanceState, "performance_state", 1)
MASK(nvmlDeviceGetCurrentClocksThrottleReasons, "throttle_reasons")
MASK(nvmlDeviceGetCurrentClocksEventReasons, "throttle_reasons")
MASK(nvmlDeviceGetTotalEnergyConsumption, "energy_mj")

int nvmlDeviceGetPciInfo_v3(device_t device, struct pci *out)
{
    char bus_id[32];
    int status = out ? device_text(device, __func__, "pci_bus_id", bus_id, sizeof bus_id) : INVALID_ARGUMENT;
    if (status != OK)
        return status;
    memset(out, 0, sizeof *out);
    if (sscanf(bus_id, "%8x:%2x:%2x", &out->domain, &out->bus, &out->device) != 3)
        return UNKNOWN;
    snprintf(out->bus_id_legacy, sizeof out->bus_id_legacy, "%04X:%02X:%02X.0", out->domain & 0xFFFF,
             out->bus & 0xFF, out->device & 0xFF);
    snprintf(out->bus_id, sizeof out->bus_id, "%s", bus_id);
    out->device_id = 0x20F110DE;
    out->subsystem_id = 0x145F10DE;
    return OK;
}

/* Parses "pid:name:mebibytes, ..." of the state; returns how many. */
static int parse_processes(char *text, struct process *out, const char **names)
{
    char *rest = NULL;
    int count = 0;
    for (char *one = strtok_r(text, ", ", &rest); one && count < MAX_PROCESSES; one = strtok_r(NULL, ", ", &rest)) {
        char *inner = NULL, *pid = strtok_r(one, ":", &inner), *name = strtok_r(NULL, ":", &inner);
        char *mib = strtok_r(NULL, ":", &inner);
        if (!pid || !name || !mib)
            continue;
        out[count] = (struct process){(uint)atoi(pid), strtoull(mib, NULL, 10) << 20, NO_INSTANCE, NO_INSTANCE};
        names[count++] = name;
    }
    return count;
}

int nvmlDeviceGetComputeRunningProcesses_v3(device_t device, uint *count, struct process *out)
{
    char text[VALUE_SIZE];
    struct process found[MAX_PROCESSES];
    const char *names[MAX_PROCESSES];
    uint room, needed;
    int status = count ? device_text(device, __func__, "processes", text, sizeof text) : INVALID_ARGUMENT;
    if (status != OK)
        return status;
    room = out ? *count : 0;
    needed = (uint)parse_processes(text, found, names);
    *count = needed;
    if (room < needed)
        return INSUFFICIENT_SIZE;
    if (needed)
        memcpy(out, found, needed * sizeof *found);
    return OK;
}

static int no_processes(device_t device, const char *function, uint *count)
{
    char text[VALUE_SIZE];
    int status = count ? device_text(device, function, "name", text, sizeof text) : INVALID_ARGUMENT;
    if (status == OK)
        *count = 0;
    return status;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(device_t device, uint *count, struct process *out)
{
    (void)out;
    return no_processes(device, __func__, count);
}

int nvmlDeviceGetMPSComputeRunningProcesses_v3(device_t device, uint *count, struct process *out)
{
    (void)out;
    return no_processes(device, __func__, count);
}

int nvmlSystemGetProcessName(uint pid, char *out, uint size)
{
    struct call call;
    char text[VALUE_SIZE];
    struct process found[MAX_PROCESSES];
    const char *names[MAX_PROCESSES];
    int status = call_host(&call, __func__);
    if (status != OK)
        return status;
    status = NOT_FOUND;
    for (int gpu = 0; gpu < gpu_count(&call.state) && status == NOT_FOUND; gpu++) {
        int count = state_find(&call.state, gpu, "processes", text) ? parse_processes(text, found, names) : 0;
        for (int i = 0; i < count && status == NOT_FOUND; i++)
            if (found[i].pid == pid)
                status = copy(out, size, names[i]);
    }
    return call_end(&call, status);
}

static int memory_of(device_t device, const char *function, struct memory *out)
{
    struct call call;
    double total, used;
    char text[VALUE_SIZE] = "";
    struct process found[MAX_PROCESSES];
    const char *names[MAX_PROCESSES];
    int status = call_gpu(&call, device, function);
    if (status != OK)
        return status;
    status = state_number(&call.state, call.gpu, "memory_mib", &total);
    if (status == OK)
        status = state_number(&call.state, call.gpu, "memory_used_mib", &used);
    state_find(&call.state, call.gpu, "processes", text);
    call_end(&call, OK);
    if (status != OK)
        return status;
    out->total = (ulonglong)total << 20;
    out->used = (ulonglong)used << 20;
    for (int i = parse_processes(text, found, names) - 1; i >= 0; i--)
        out->used += found[i].used_bytes;
    out->free = out->used < out->total ? out->total - out->used : 0;
    return OK;
}

int nvmlDeviceGetMemoryInfo(device_t device, struct memory *out)
{
    return out ? memory_of(device, __func__, out) : INVALID_ARGUMENT;
}

int nvmlDeviceGetMemoryInfo_v2(device_t device, struct memory_v2 *out)
{
    struct memory memory;
    int status;
    if (!out || out->version != MEMORY_V2)
        return INVALID_ARGUMENT;
    status = memory_of(device, __func__, &memory);
    if (status == OK)
        *out = (struct memory_v2){MEMORY_V2, memory.total, 0, memory.free, memory.used};
    return status;
}

int nvmlDeviceGetEccMode(device_t device, uint *current, uint *pending)
{
    int status = device_uint(device, __func__, "ecc_current", 1, current);
    return status == OK ? device_uint(device, __func__, "ecc_pending", 1, pending) : status;
}

int nvmlDeviceGetTotalEccErrors(device_t device, uint uncorrected, uint aggregate, ulonglong *out)
{
    static const char *const keys[2][2] = {
        {"ecc_corrected_volatile", "ecc_corrected_aggregate"},
        {"ecc_uncorrected_volatile", "ecc_uncorrected_aggregate"},
    };
    double on;
    int status;
    if (uncorrected > 1 || aggregate > 1)
        return INVALID_ARGUMENT;
    status = device_number(device, __func__, "ecc_current", &on);
    if (status == OK && on == 0)
        return NOT_SUPPORTED;
    return status == OK ? device_ulonglong(device, __func__, keys[uncorrected][aggregate], out) : status;
}

int nvmlDeviceGetRemappedRows(device_t device, uint *correctable, uint *uncorrectable, uint *pending, uint *failed)
{
    int status = device_uint(device, __func__, "remap_correctable", 1, correctable);
    if (status == OK)
        status = device_uint(device, __func__, "remap_uncorrectable", 1, uncorrectable);
    if (status == OK)
        status = device_uint(device, __func__, "remap_pending", 1, pending);
    return status == OK ? device_uint(device, __func__, "remap_failed", 1, failed) : status;
}

int nvmlDeviceGetMigMode(device_t device, uint *current, uint *pending)
{
    int status = device_uint(device, __func__, "mig", 1, current);
    return status == OK ? device_uint(device, __func__, "mig", 1, pending) : status;
}

int nvmlDeviceSetPersistenceMode(device_t device, uint mode)
{
    struct call call;
    int status = mode <= 1 ? call_gpu(&call, device, __func__) : INVALID_ARGUMENT;
    if (status != OK)
        return status;
    return call_end(&call, state_set(call.gpu, "persistence", mode ? "1" : "0"));
}

int nvmlDeviceGetPowerManagementLimitConstraints(device_t device, uint *least, uint *most)
{
    int status = device_uint(device, __func__, "power_min_limit_w", 1000, least);
    return status == OK ? device_uint(device, __func__, "power_max_limit_w", 1000, most) : status;
}

int nvmlDeviceGetTemperature(device_t device, uint sensor, uint *out)
{
    return sensor == 0 ? device_uint(device, __func__, "temperature_c", 1, out) : INVALID_ARGUMENT;
}

int nvmlDeviceGetTemperatureV(device_t device, struct temperature *out)
{
    uint celsius;
    int status;
    if (!out || out->version != TEMPERATURE_V1 || out->sensor != 0)
        return INVALID_ARGUMENT;
    status = device_uint(device, __func__, "temperature_c", 1, &celsius);
    if (status == OK)
        out->celsius = (int)celsius;
    return status;
}

int nvmlDeviceGetTemperatureThreshold(device_t device, uint threshold, uint *out)
{
    static const char *const keys[] = {"temperature_shutdown_c", "temperature_slowdown_c"};
    return threshold < 2 ? device_uint(device, __func__, keys[threshold], 1, out) : NOT_SUPPORTED;
}

static int clock_of(device_t device, const char *function, uint type, int most, uint *out)
{
    static const char *const keys[2][4] = {
        {"clock_sm_mhz", "clock_sm_mhz", "clock_mem_mhz", "clock_video_mhz"},
        {"clock_sm_max_mhz", "clock_sm_max_mhz", "clock_mem_max_mhz", "clock_video_max_mhz"},
    };
    return type < 4 ? device_uint(device, function, keys[most][type], 1, out) : INVALID_ARGUMENT;
}

int nvmlDeviceGetClockInfo(device_t device, uint type, uint *out) { return clock_of(device, __func__, type, 0, out); }
int nvmlDeviceGetMaxClockInfo(device_t device, uint type, uint *out)
{
    return clock_of(device, __func__, type, 1, out);
}

int nvmlDeviceGetUtilizationRates(device_t device, struct utilization *out)
{
    int status = out ? device_uint(device, __func__, "utilization_gpu", 1, &out->gpu) : INVALID_ARGUMENT;
    return status == OK ? device_uint(device, __func__, "utilization_memory", 1, &out->memory) : status;
}

int nvmlDeviceGetNvLinkState(device_t device, uint link, uint *out)
{
    uint active;
    int status = out && link < NVLINKS ? device_uint(device, __func__, "nvlinks_active", 1, &active)
                                       : INVALID_ARGUMENT;
    if (status == OK)
        *out = link < active;
    return status;
}

int nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor)
{
    char text[VALUE_SIZE];
    int status = major && minor ? device_text(device, __func__, "name", text, sizeof text) : INVALID_ARGUMENT;
    if (status == OK) {
        *major = 8;
        *minor = 0;
    }
    return status;
}

/* GPUs of one NUMA node hang on different root ports of it here, as in the servers that are simulated. */
int nvmlDeviceGetTopologyCommonAncestor(device_t one, device_t other, uint *out)
{
    enum { INTERNAL = 0, NODE = 40, SYSTEM = 50 };
    double first, second;
    int status = out ? device_number(one, __func__, "numa_node", &first) : INVALID_ARGUMENT;
    if (status == OK)
        status = device_number(other, __func__, "numa_node", &second);
    if (status == OK)
        *out = one == other ? INTERNAL : first == second ? NODE : SYSTEM;
    return status;
}

/* What an A100 answers that has no fan, retires rows and not pages, and whose memory is no NUMA node. */
#define ABSENT(function) \
    int function(device_t device) { (void)device; return initialised ? NOT_SUPPORTED : UNINITIALIZED; }

ABSENT(nvmlDeviceGetFanSpeed)
ABSENT(nvmlDeviceGetNumaNodeId)
ABSENT(nvmlDeviceGetRetiredPages)
ABSENT(nvmlDeviceGetNvLinkRemotePciInfo_v2)
