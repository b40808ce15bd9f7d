/*
 * `nvidia-smi -q -x` of the lab; see smi.h.
 */
#include "smi.h"

#include <stdio.h>
#include <string.h>

static void xml_text(int depth, const char *name, const char *text)
{
    printf("%.*s<%s>", depth, "\t\t\t\t\t\t", name);
    for (; *text; text++)
        switch (*text) {
        case '&': fputs("&amp;", stdout); break;
        case '<': fputs("&lt;", stdout); break;
        case '>': fputs("&gt;", stdout); break;
        default: putchar(*text);
        }
    printf("</%s>\n", name);
}

/* Elements below <gpu>: path, and the field that it shows. Those of one parent stand together. */
static const char *const elements[][2] = {
    {"product_name", "name"}, {"persistence_mode", "persistence_mode"}, {"mig_mode/current_mig", "mig.mode.current"},
    {"mig_mode/pending_mig", "mig.mode.pending"}, {"serial", "serial"}, {"uuid", "uuid"},
    {"vbios_version", "vbios_version"}, {"pci/pci_bus_id", "pci.bus_id"},
    {"pci/pci_gpu_link_info/pcie_gen/max_link_gen", "pcie.link.gen.max"},
    {"pci/pci_gpu_link_info/pcie_gen/current_link_gen", "pcie.link.gen.current"},
    {"pci/pci_gpu_link_info/link_widths/max_link_width", "pcie.link.width.max"},
    {"pci/pci_gpu_link_info/link_widths/current_link_width", "pcie.link.width.current"},
    {"performance_state", "pstate"}, {"fb_memory_usage/total", "memory.total"},
    {"fb_memory_usage/used", "memory.used"}, {"fb_memory_usage/free", "memory.free"},
    {"utilization/gpu_util", "utilization.gpu"}, {"utilization/memory_util", "utilization.memory"},
    {"ecc_mode/current_ecc", "ecc.mode.current"}, {"ecc_mode/pending_ecc", "ecc.mode.pending"},
    {"remapped_rows/remapped_row_corr", "remapped_rows.correctable"},
    {"remapped_rows/remapped_row_unc", "remapped_rows.uncorrectable"},
    {"remapped_rows/remapped_row_pending", "remapped_rows.pending"},
    {"remapped_rows/remapped_row_failure", "remapped_rows.failure"}, {"temperature/gpu_temp", "temperature.gpu"},
    {"gpu_power_readings/power_draw", "power.draw"}, {"gpu_power_readings/current_power_limit", "power.limit"},
    {"gpu_power_readings/default_power_limit", "power.default_limit"}, {"clocks/sm_clock", "clocks.sm"},
    {"clocks/mem_clock", "clocks.mem"},
};

/* Close what is open and not on the path (one that ends in a slash), open what is not yet; the new depth. */
static int xml_move(char open[], const char *path, size_t length, int depth)
{
    size_t common = 0, at = strlen(open);
    for (size_t i = 0; i < length && open[i] == path[i]; i++)
        if (path[i] == '/')
            common = i + 1;
    while (at > common) {
        open[at - 1] = '\0';
        at = strrchr(open, '/') ? (size_t)(strrchr(open, '/') - open) + 1 : 0;
        printf("%.*s</%s>\n", --depth, "\t\t\t\t\t\t", open + at);
        open[at] = '\0';
    }
    while (at < length) {
        size_t part = (size_t)(strchr(path + at, '/') - path) - at;
        printf("%.*s<%.*s>\n", depth++, "\t\t\t\t\t\t", (int)part, path + at);
        at += part + 1;
    }
    memcpy(open, path, length);
    open[length] = '\0';
    return depth;
}

static void xml_processes(device_t gpu)
{
    struct process found[MAX_PROCESSES];
    char text[32];
    uint count = processes_of(gpu, found);
    puts(count ? "\t\t<processes>" : "\t\t<processes />");
    for (uint i = 0; i < count; i++) {
        puts("\t\t\t<process_info>");
        snprintf(text, sizeof text, "%u", found[i].pid);
        xml_text(4, "pid", text);
        xml_text(4, "type", "C");
        xml_text(4, "process_name", process_name(found[i].pid));
        snprintf(text, sizeof text, "%llu MiB", found[i].used_bytes >> 20);
        xml_text(4, "used_memory", text);
        puts("\t\t\t</process_info>");
    }
    if (count)
        puts("\t\t</processes>");
}

void print_xml(void)
{
    char text[TEXT_SIZE + 2], open[64] = "";
    puts("<?xml version=\"1.0\" ?>\n<!DOCTYPE nvidia_smi_log SYSTEM \"nvsmi_device_v12.dtd\">\n<nvidia_smi_log>");
    xml_text(1, "timestamp", now());
    xml_text(1, "driver_version", driver_version());
    xml_text(1, "cuda_version", cuda_version());
    snprintf(text, sizeof text, "%u", gpu_total);
    xml_text(1, "attached_gpus", text);
    for (uint gpu = 0; gpu < gpu_total; gpu++) {
        int depth = 2;
        printf("\t<gpu id=\"%s\">\n", value_of("pci.bus_id", gpus[gpu]));
        for (size_t i = 0; i < sizeof elements / sizeof *elements; i++) {
            const char *path = elements[i][0], *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
            depth = xml_move(open, path, (size_t)(name - path), depth);
            snprintf(text, sizeof text, "%s%s", value_of(elements[i][1], gpus[gpu]),
                     strcmp(name, "gpu_temp") ? "" : " C");
            xml_text(depth, name, text);
        }
        xml_move(open, "", 0, depth);
        xml_processes(gpus[gpu]);
        puts("\t</gpu>");
    }
    puts("</nvidia_smi_log>");
}
