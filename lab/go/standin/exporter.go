package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"
)

// Metric as NVIDIA's DCGM exporter names it, and the key of the state that it shows.
type metric struct {
	name, kind, help, key string
}

var metrics = []metric{
	{"DCGM_FI_DEV_SM_CLOCK", "gauge", "SM clock frequency (in MHz).", "clock_sm_mhz"},
	{"DCGM_FI_DEV_MEM_CLOCK", "gauge", "Memory clock frequency (in MHz).", "clock_mem_mhz"},
	{"DCGM_FI_DEV_GPU_TEMP", "gauge", "GPU temperature (in C).", "temperature_c"},
	{"DCGM_FI_DEV_POWER_USAGE", "gauge", "Power draw (in W).", "power_w"},
	{"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "counter", "Total energy consumption since boot (in mJ).", "energy_mj"},
	{"DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "counter", "Total number of PCIe retries.", "pcie_replays"},
	{"DCGM_FI_DEV_GPU_UTIL", "gauge", "GPU utilization (in %).", "utilization_gpu"},
	{"DCGM_FI_DEV_MEM_COPY_UTIL", "gauge", "Memory utilization (in %).", "utilization_memory"},
	{"DCGM_FI_DEV_FB_USED", "gauge", "Frame buffer memory used (in MB).", "memory_used_mib"},
	{"DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", "counter", "Total number of single-bit volatile ECC errors.",
		"ecc_corrected_volatile"},
	{"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", "counter", "Total number of double-bit volatile ECC errors.",
		"ecc_uncorrected_volatile"},
	{"DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "counter", "Number of remapped rows for correctable errors.",
		"remap_correctable"},
	{"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", "counter", "Number of remapped rows for uncorrectable errors.",
		"remap_uncorrectable"},
	{"DCGM_FI_DEV_ROW_REMAP_FAILURE", "gauge", "Whether remapping of rows has failed.", "remap_failed"},
}

// Metrics of a host's GPUs in Prometheus' text format. A key that is no number is left out, as DCGM does with what a
// GPU does not tell.
func Metrics(state *State, host string) string {
	text := &strings.Builder{}
	for _, each := range metrics {
		fmt.Fprintf(text, "# HELP %s %s\n# TYPE %s %s\n", each.name, each.help, each.name, each.kind)
		for _, gpu := range state.GPUs() {
			value, is := gpu.Number(each.key)
			if !is || gpu.Lost() {
				continue
			}
			fmt.Fprintf(text, "%s{gpu=\"%d\",UUID=\"%s\",pci_bus_id=\"%s\",device=\"nvidia%d\",modelName=\"%s\","+
				"Hostname=\"%s\",DCGM_FI_DRIVER_VERSION=\"%s\"} %g\n", each.name, gpu.index, gpu.Text("uuid"),
				gpu.Text("pci_bus_id"), gpu.index, gpu.Text("name"), host, gpu.state.values["driver_version"], value)
		}
	}
	return text.String()
}

func runExporter(ctx context.Context, arguments []string) error {
	where := place{}
	set := where.options("dcgm-exporter")
	path := set.String("state", stateFile, "the mock NVML's state")
	address := set.String("address", ":9400", "where to answer")
	_ = set.Parse(arguments)
	mux := http.NewServeMux()
	mux.HandleFunc("/metrics", func(response http.ResponseWriter, _ *http.Request) {
		state, err := ReadState(*path)
		if err != nil {
			http.Error(response, err.Error(), http.StatusInternalServerError)
			return
		}
		response.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprint(response, Metrics(state, where.node))
	})
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: *address, Handler: mux, ReadHeaderTimeout: dialTimeout}
	go func() {
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = server.Shutdown(grace)
	}()
	fmt.Fprintln(os.Stderr, "dcgm-exporter: answering at", *address)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
