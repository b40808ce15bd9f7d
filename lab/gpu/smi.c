/*
 * Lab stand-in for nvidia-smi: a small part of its options, answered through NVML.
 */
#define _GNU_SOURCE
#include "smi.h"

#include <ctype.h>
#include <getopt.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_NICS 16
#define WIDTH 89

device_t gpus[MAX_GPUS];
uint gpu_total;

void must(int status)
{
    if (status) {
        fprintf(stderr, "Unable to determine the device handle for GPU: %s\n", nvmlErrorString(status));
        exit(1);
    }
}

static void find_gpus(const char *id)
{
    uint count;
    char *end;
    must(nvmlDeviceGetCount_v2(&count));
    if (id) {
        must(nvmlDeviceGetHandleByIndex_v2((uint)strtoul(id, &end, 10), gpus));
        if (*end || !isdigit(*id)) {
            fprintf(stderr, "nvidia-smi: -i: the lab's takes an index, found %s\n", id);
            exit(2);
        }
        gpu_total = 1;
        return;
    }
    for (gpu_total = 0; gpu_total < count && gpu_total < MAX_GPUS; gpu_total++)
        must(nvmlDeviceGetHandleByIndex_v2(gpu_total, &gpus[gpu_total]));
}

static void list_gpus(void)
{
    for (uint i = 0; i < gpu_total; i++)
        printf("GPU %s: %s (UUID: %s)\n", value_of("index", gpus[i]), value_of("name", gpus[i]),
               value_of("uuid", gpus[i]));
}

static uint fields_of(char *wanted, const struct field **fields, uint most)
{
    uint count = 0;
    for (char *name = strtok(wanted, ", "); name; name = strtok(NULL, ", ")) {
        if (count == most || !(fields[count++] = field_named(name))) {
            fprintf(stderr, "Field \"%s\" is not a valid field to query.\n\n", name);
            exit(1);
        }
    }
    return count;
}

static void query(char *wanted, const char *form)
{
    const struct field *fields[64];
    uint count = fields_of(wanted, fields, 64);
    int units = !strstr(form, "nounits");
    char value[TEXT_SIZE];
    if (strncmp(form, "csv", 3) != 0 || (form[3] && form[3] != ',')) {
        fputs("\"--format=\" must be given with csv\n\n", stderr);
        exit(1);
    }
    for (uint i = 0; i < count && !strstr(form, "noheader"); i++) {
        const char *unit = units ? fields[i]->unit : "";
        printf("%s%s%s%s%s", fields[i]->name, *unit ? " [" : "", unit, *unit ? "]" : "", i + 1 < count ? ", " : "\n");
    }
    for (uint gpu = 0; gpu < gpu_total; gpu++)
        for (uint i = 0; i < count; i++) {
            field_value(fields[i], gpus[gpu], units, value);
            printf("%s%s", value, i + 1 < count ? ", " : "\n");
        }
}

const char *cuda_version(void)
{
    static char text[32];
    int version;
    must(nvmlSystemGetCudaDriverVersion_v2(&version));
    snprintf(text, sizeof text, "%d.%d", version / 1000, version % 1000 / 10);
    return text;
}

const char *driver_version(void)
{
    static char text[TEXT_SIZE];
    must(nvmlSystemGetDriverVersion(text, sizeof text));
    return text;
}

const char *now(void)
{
    static char text[64];
    time_t seconds = time(NULL);
    strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", localtime(&seconds));
    return text;
}

uint processes_of(device_t gpu, struct process *found)
{
    uint count = MAX_PROCESSES;
    must(nvmlDeviceGetComputeRunningProcesses_v3(gpu, &count, found));
    return count;
}

const char *process_name(uint pid)
{
    static char text[TEXT_SIZE];
    must(nvmlSystemGetProcessName(pid, text, sizeof text));
    return text;
}

/* The first line of a file of sysfs. */
static const char *line_of(const char *folder, const char *file)
{
    static char text[TEXT_SIZE];
    char path[TEXT_SIZE];
    FILE *stream;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    stream = fopen(path, "r");
    if (!stream || !fgets(text, sizeof text, stream)) {
        perror(path);
        exit(1);
    }
    fclose(stream);
    text[strcspn(text, "\n")] = '\0';
    return text;
}

static uint find_devices(char names[][32], int nodes[], glob_t *nics)
{
    char path[TEXT_SIZE];
    for (uint i = 0; i < gpu_total; i++) {
        char address[TEXT_SIZE];
        snprintf(address, sizeof address, "%s", value_of("pci.bus_id", gpus[i]) + 4);
        for (char *at = address; *at; at++)
            *at = (char)tolower(*at);
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%.64s", address);
        snprintf(names[i], 32, "GPU%.16s", value_of("index", gpus[i]));
        nodes[i] = atoi(line_of(path, "numa_node"));
    }
    if (glob("/sys/class/infiniband/*", 0, NULL, nics) != 0)
        nics->gl_pathc = 0;
    for (uint i = 0; i < nics->gl_pathc && i < MAX_NICS; i++) {
        snprintf(names[gpu_total + i], 32, "NIC%u", i);
        nodes[gpu_total + i] = atoi(line_of(nics->gl_pathv[i], "device/numa_node"));
    }
    return gpu_total + (uint)nics->gl_pathc;
}

/* The matrix of `topo -m`: here every device hangs on a root port of its own. */
static void print_topology(void)
{
    char names[MAX_GPUS + MAX_NICS][32], path[64];
    int nodes[MAX_GPUS + MAX_NICS];
    glob_t nics;
    uint total = find_devices(names, nodes, &nics);
    for (uint i = 0; i < total; i++)
        printf("\t%s", names[i]);
    puts("\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID");
    for (uint row = 0; row < total; row++) {
        fputs(names[row], stdout);
        for (uint i = 0; i < total; i++)
            printf("\t%s", i == row ? " X " : nodes[i] == nodes[row] ? "NODE" : "SYS");
        snprintf(path, sizeof path, "/sys/devices/system/node/node%d", nodes[row]);
        if (row < gpu_total)
            printf("\t%s\t%d\tN/A", line_of(path, "cpulist"), nodes[row]);
        putchar('\n');
    }
    puts("\nLegend:\n\n  X    = Self\n"
         "  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)\n"
         "  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node");
    if (nics.gl_pathc)
        puts("\nNIC Legend:\n");
    for (uint i = 0; i < nics.gl_pathc; i++)
        printf("  NIC%u: %s\n", i, strrchr(nics.gl_pathv[i], '/') + 1);
}

static void row(const char *text) { printf("|%-*s|\n", WIDTH, text); }

static void rule(void)
{
    char line[WIDTH + 1];
    memset(line, '-', WIDTH);
    line[WIDTH] = '\0';
    printf("+%s+\n", line);
}

static void table_gpu(device_t gpu)
{
    char text[8 * TEXT_SIZE];
    snprintf(text, sizeof text, " %3s  %-30s Persistence: %-9s %s", value_of("index", gpu), value_of("name", gpu),
             value_of("persistence_mode", gpu), value_of("pci.bus_id", gpu));
    row(text);
    snprintf(text, sizeof text, "      %sC  %s  %s / %s  %s / %s  %s", value_of("temperature.gpu", gpu),
             value_of("pstate", gpu), value_of("power.draw", gpu), value_of("power.limit", gpu),
             value_of("memory.used", gpu), value_of("memory.total", gpu), value_of("utilization.gpu", gpu));
    row(text);
    rule();
}

static void print_table(void)
{
    struct process found[MAX_PROCESSES];
    char text[2 * TEXT_SIZE];
    uint running = 0;
    puts(now());
    rule();
    snprintf(text, sizeof text, " NVIDIA-SMI %-20s Driver Version: %-14s CUDA Version: %s", driver_version(),
             driver_version(), cuda_version());
    row(text);
    rule();
    for (uint gpu = 0; gpu < gpu_total; gpu++)
        table_gpu(gpus[gpu]);
    row(" Processes:");
    for (uint gpu = 0; gpu < gpu_total; gpu++) {
        uint count = processes_of(gpus[gpu], found);
        for (uint i = 0; i < count; i++, running++) {
            snprintf(text, sizeof text, " %4u %9u  C  %-40s %lluMiB", gpu, found[i].pid, process_name(found[i].pid),
                     found[i].used_bytes >> 20);
            row(text);
        }
    }
    if (!running)
        row("  No running processes found");
    rule();
}

static void set_persistence(uint mode)
{
    for (uint i = 0; i < gpu_total; i++) {
        must(nvmlDeviceSetPersistenceMode(gpus[i], mode));
        printf("%s persistence mode for GPU %s.\n", mode ? "Enabled" : "Disabled", value_of("pci.bus_id", gpus[i]));
    }
    puts("All done.");
}

struct wish {
    int list, everything, xml, topology, persistence;
    char *id, *fields;
    const char *form;
};

static void refuse(const char *why)
{
    fprintf(stderr, "usage: nvidia-smi [-L] [-q -x] [-i INDEX] [-pm {0,1}] [--query-gpu FIELDS] "
                    "[--format csv[,noheader[,nounits]]] [topo -m]\nnvidia-smi: error: %s\n", why);
    exit(2);
}

static struct wish arguments(int argc, char **argv)
{
    static const struct option known[] = {
        {"list-gpus", 0, NULL, 'L'}, {"query", 0, NULL, 'q'}, {"xml-format", 0, NULL, 'x'}, {"id", 1, NULL, 'i'},
        {"persistence-mode", 1, NULL, 'p'}, {"pm", 1, NULL, 'p'}, {"query-gpu", 1, NULL, 'f'},
        {"format", 1, NULL, 'F'}, {"matrix", 0, NULL, 'm'}, {NULL, 0, NULL, 0},
    };
    struct wish wish = {.persistence = -1, .form = ""};
    int option, matrix = 0;
    while ((option = getopt_long_only(argc, argv, "Lqxi:m", known, NULL)) != -1)
        switch (option) {
        case 'L': wish.list = 1; break;
        case 'q': wish.everything = 1; break;
        case 'x': wish.xml = 1; break;
        case 'i': wish.id = optarg; break;
        case 'f': wish.fields = optarg; break;
        case 'F': wish.form = optarg; break;
        case 'm': matrix = 1; break;
        case 'p':
            if (strcmp(optarg, "0") != 0 && strcmp(optarg, "1") != 0)
                refuse("argument -pm/--persistence-mode: expected 0 or 1");
            wish.persistence = *optarg == '1';
            break;
        default: refuse("the lab's nvidia-smi knows these options only");
        }
    wish.topology = optind < argc && strcmp(argv[optind], "topo") == 0;
    if (optind + wish.topology < argc || matrix != wish.topology)
        refuse("expected topo -m, or no command");
    if (wish.everything && !wish.xml)
        refuse("the lab's nvidia-smi prints -q as XML only: add -x");
    return wish;
}

int main(int argc, char **argv)
{
    struct wish wish = arguments(argc, argv);
    int status = nvmlInit_v2();
    if (status) {
        puts("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest "
             "NVIDIA driver is installed and running.\n");
        return status & 0xFF;
    }
    find_gpus(wish.id);
    if (wish.list)
        list_gpus();
    else if (wish.persistence >= 0)
        set_persistence((uint)wish.persistence);
    else if (wish.fields)
        query(wish.fields, wish.form);
    else if (wish.everything)
        print_xml();
    else if (wish.topology)
        print_topology();
    else
        print_table();
    return 0;
}
