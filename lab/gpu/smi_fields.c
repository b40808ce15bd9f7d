/*
 * The fields of the lab's nvidia-smi; see smi.h.
 */
#include "smi.h"

#include <stdio.h>
#include <string.h>

#define NOT_SUPPORTED 3

struct memory { ulonglong total, free, used; };
struct utilization { uint gpu, memory; };
struct pci {
    char bus_id_legacy[16];
    uint domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};

extern int nvmlDeviceGetMemoryInfo(device_t device, struct memory *out);
extern int nvmlDeviceGetUtilizationRates(device_t device, struct utilization *out);
extern int nvmlDeviceGetPciInfo_v3(device_t device, struct pci *out);
extern int nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor);
extern int nvmlDeviceGetMigMode(device_t device, uint *current, uint *pending);
extern int nvmlDeviceGetEccMode(device_t device, uint *current, uint *pending);
extern int nvmlDeviceGetTotalEccErrors(device_t device, uint uncorrected, uint aggregate, ulonglong *out);
extern int nvmlDeviceGetRemappedRows(device_t device, uint *correctable, uint *uncorrectable, uint *pending,
                                     uint *failed);
extern int nvmlDeviceGetTemperature(device_t device, uint sensor, uint *out);
extern int nvmlDeviceGetClockInfo(device_t device, uint type, uint *out);
extern int nvmlDeviceGetMaxClockInfo(device_t device, uint type, uint *out);
extern int nvmlDeviceGetCurrentClocksThrottleReasons(device_t device, ulonglong *out);

/* A field whose call leaves its answer in a variable; `format` prints `shown`. */
#define FIELD(name, declaration, call, format, shown) \
    static int name(device_t gpu, char *out) \
    { \
        declaration; \
        int status = call; \
        if (status == 0) \
            snprintf(out, TEXT_SIZE, format, shown); \
        return status; \
    }
#define TEXT(name, function) \
    extern int function(device_t device, char *out, uint size); \
    static int name(device_t gpu, char *out) { return function(gpu, out, TEXT_SIZE); }
#define NUMBER(name, function) \
    extern int function(device_t device, uint *out); \
    FIELD(name, uint value, function(gpu, &value), "%u", value)
#define WATTS(name, function) \
    extern int function(device_t device, uint *out); \
    FIELD(name, uint value, function(gpu, &value), "%.2f", value / 1000.0)
#define MIB(name, part) FIELD(name, struct memory memory, nvmlDeviceGetMemoryInfo(gpu, &memory), "%llu", part >> 20)
#define UTILIZATION(name, part) \
    FIELD(name, struct utilization rates, nvmlDeviceGetUtilizationRates(gpu, &rates), "%u", part)
#define MODE(name, function, part) FIELD(name, uint now; uint later, function(gpu, &now, &later), "%s", enabled(part))
#define ECC_ERRORS(name, uncorrected, aggregate) \
    FIELD(name, ulonglong value, nvmlDeviceGetTotalEccErrors(gpu, uncorrected, aggregate, &value), "%llu", value)
#define REMAPPED(name, format, part) \
    FIELD(name, uint rows[4], nvmlDeviceGetRemappedRows(gpu, rows, rows + 1, rows + 2, rows + 3), format, part)
#define CLOCK(name, function, type) FIELD(name, uint value, function(gpu, type, &value), "%u", value)

enum { SM = 1, MEMORY = 2 };

static const char *enabled(uint mode) { return mode ? "Enabled" : "Disabled"; }

static int count(device_t gpu, char *out)
{
    uint value;
    int status = nvmlDeviceGetCount_v2(&value);
    (void)gpu;
    if (status == 0)
        snprintf(out, TEXT_SIZE, "%u", value);
    return status;
}

static int driver(device_t gpu, char *out)
{
    (void)gpu;
    return nvmlSystemGetDriverVersion(out, TEXT_SIZE);
}

static int capability(device_t gpu, char *out)
{
    int major, minor, status = nvmlDeviceGetCudaComputeCapability(gpu, &major, &minor);
    if (status == 0)
        snprintf(out, TEXT_SIZE, "%d.%d", major, minor);
    return status;
}

NUMBER(gpu_index, nvmlDeviceGetIndex)
TEXT(gpu_name, nvmlDeviceGetName)
TEXT(uuid, nvmlDeviceGetUUID)
TEXT(serial, nvmlDeviceGetSerial)
TEXT(vbios, nvmlDeviceGetVbiosVersion)
FIELD(bus_id, struct pci pci, nvmlDeviceGetPciInfo_v3(gpu, &pci), "%s", pci.bus_id)
extern int nvmlDeviceGetPerformanceState(device_t device, uint *out);
FIELD(pstate, uint value, nvmlDeviceGetPerformanceState(gpu, &value), "P%u", value)
MIB(memory_total, memory.total)
MIB(memory_used, memory.used)
MIB(memory_free, memory.free)
extern int nvmlDeviceGetPersistenceMode(device_t device, uint *out);
FIELD(persistence, uint value, nvmlDeviceGetPersistenceMode(gpu, &value), "%s", enabled(value))
MODE(mig_current, nvmlDeviceGetMigMode, now)
MODE(mig_pending, nvmlDeviceGetMigMode, later)
MODE(ecc_current, nvmlDeviceGetEccMode, now)
MODE(ecc_pending, nvmlDeviceGetEccMode, later)
ECC_ERRORS(corrected_volatile, 0, 0)
ECC_ERRORS(corrected_aggregate, 0, 1)
ECC_ERRORS(uncorrected_volatile, 1, 0)
ECC_ERRORS(uncorrected_aggregate, 1, 1)
REMAPPED(remapped_correctable, "%u", rows[0])
REMAPPED(remapped_uncorrectable, "%u", rows[1])
REMAPPED(remapped_pending, "%s", rows[2] ? "Yes" : "No")
REMAPPED(remapped_failed, "%s", rows[3] ? "Yes" : "No")
NUMBER(pcie_generation, nvmlDeviceGetCurrPcieLinkGeneration)
NUMBER(pcie_generation_max, nvmlDeviceGetMaxPcieLinkGeneration)
NUMBER(pcie_width, nvmlDeviceGetCurrPcieLinkWidth)
NUMBER(pcie_width_max, nvmlDeviceGetMaxPcieLinkWidth)
FIELD(temperature, uint value, nvmlDeviceGetTemperature(gpu, 0, &value), "%u", value)
WATTS(power_draw, nvmlDeviceGetPowerUsage)
WATTS(power_limit, nvmlDeviceGetPowerManagementLimit)
WATTS(power_default_limit, nvmlDeviceGetPowerManagementDefaultLimit)
UTILIZATION(utilization_gpu, rates.gpu)
UTILIZATION(utilization_memory, rates.memory)
CLOCK(clock_sm, nvmlDeviceGetClockInfo, SM)
CLOCK(clock_memory, nvmlDeviceGetClockInfo, MEMORY)
CLOCK(clock_sm_max, nvmlDeviceGetMaxClockInfo, SM)
CLOCK(clock_memory_max, nvmlDeviceGetMaxClockInfo, MEMORY)
FIELD(throttle_reasons, ulonglong value, nvmlDeviceGetCurrentClocksThrottleReasons(gpu, &value), "0x%016llx", value)

static const struct field fields[] = {
    {"index", gpu_index, ""}, {"count", count, ""}, {"name", gpu_name, ""}, {"gpu_name", gpu_name, ""},
    {"uuid", uuid, ""}, {"gpu_uuid", uuid, ""}, {"serial", serial, ""}, {"gpu_serial", serial, ""},
    {"driver_version", driver, ""}, {"vbios_version", vbios, ""}, {"pci.bus_id", bus_id, ""},
    {"gpu_bus_id", bus_id, ""}, {"compute_cap", capability, ""}, {"pstate", pstate, ""},
    {"memory.total", memory_total, "MiB"}, {"memory.used", memory_used, "MiB"}, {"memory.free", memory_free, "MiB"},
    {"persistence_mode", persistence, ""}, {"mig.mode.current", mig_current, ""},
    {"mig.mode.pending", mig_pending, ""}, {"ecc.mode.current", ecc_current, ""},
    {"ecc.mode.pending", ecc_pending, ""}, {"ecc.errors.corrected.volatile.total", corrected_volatile, ""},
    {"ecc.errors.corrected.aggregate.total", corrected_aggregate, ""},
    {"ecc.errors.uncorrected.volatile.total", uncorrected_volatile, ""},
    {"ecc.errors.uncorrected.aggregate.total", uncorrected_aggregate, ""},
    {"remapped_rows.correctable", remapped_correctable, ""},
    {"remapped_rows.uncorrectable", remapped_uncorrectable, ""}, {"remapped_rows.pending", remapped_pending, ""},
    {"remapped_rows.failure", remapped_failed, ""}, {"pcie.link.gen.current", pcie_generation, ""},
    {"pcie.link.gen.max", pcie_generation_max, ""}, {"pcie.link.width.current", pcie_width, ""},
    {"pcie.link.width.max", pcie_width_max, ""}, {"temperature.gpu", temperature, ""},
    {"power.draw", power_draw, "W"}, {"power.limit", power_limit, "W"},
    {"power.default_limit", power_default_limit, "W"}, {"utilization.gpu", utilization_gpu, "%"},
    {"utilization.memory", utilization_memory, "%"}, {"clocks.sm", clock_sm, "MHz"},
    {"clocks.current.sm", clock_sm, "MHz"}, {"clocks.mem", clock_memory, "MHz"},
    {"clocks.max.sm", clock_sm_max, "MHz"}, {"clocks.max.mem", clock_memory_max, "MHz"},
    {"clocks_throttle_reasons.active", throttle_reasons, ""},
    {"clocks_event_reasons.active", throttle_reasons, ""},
};

/* Other names of a field are shown under the first one. */
const struct field *field_named(const char *name)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (strcmp(fields[i].name, name) == 0) {
            while (i > 0 && fields[i - 1].read == fields[i].read)
                i--;
            return fields + i;
        }
    return NULL;
}

void field_value(const struct field *field, device_t gpu, int with_unit, char out[TEXT_SIZE])
{
    int status = field->read(gpu, out);
    size_t length = strlen(status ? "" : out);
    if (status)
        snprintf(out, TEXT_SIZE, status == NOT_SUPPORTED ? "[N/A]" : "[%s]", nvmlErrorString(status));
    else if (with_unit && *field->unit)
        snprintf(out + length, TEXT_SIZE - length, " %s", field->unit);
}

const char *value_of(const char *name, device_t gpu)
{
    static char buffers[8][TEXT_SIZE];
    static uint next;
    char *buffer = buffers[next++ % 8];
    field_value(field_named(name), gpu, 1, buffer);
    return buffer;
}
