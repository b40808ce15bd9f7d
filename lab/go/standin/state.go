package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Where the mock NVML of a host keeps what its GPUs are like; lab/gpu/state.h tells the format.
const stateFile = "/var/lib/lab-gpu/state.ini"

// State of a host's GPUs, as the mock NVML would tell it. NVML itself is a C library, and this program links none.
type State struct {
	values map[string]string
	count  int
}

// GPU of a host by its index.
type GPU struct {
	state *State
	index int
}

// ReadState reads the file; an error is what NVML calls a driver that is not loaded.
func ReadState(path string) (*State, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("driver not loaded: %w", err)
	}
	defer file.Close()
	state := &State{values: map[string]string{}}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		key, value, found := strings.Cut(lines.Text(), "=")
		if key = strings.TrimSpace(key); found && !strings.HasPrefix(key, "#") {
			state.values[key] = strings.TrimSpace(value)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if state.count, err = strconv.Atoi(state.values["count"]); err != nil {
		return nil, fmt.Errorf("%s: count is %q", path, state.values["count"])
	}
	return state, nil
}

// GPUs that NVML would show.
func (s *State) GPUs() []GPU {
	gpus := make([]GPU, s.count)
	for index := range gpus {
		gpus[index] = GPU{s, index}
	}
	return gpus
}

// Text of a key; empty where there is none.
func (g GPU) Text(key string) string { return g.state.values[fmt.Sprintf("gpu%d.%s", g.index, key)] }

// Number of a key, and whether it is one.
func (g GPU) Number(key string) (float64, bool) {
	value, err := strconv.ParseFloat(g.Text(key), 64)
	return value, err == nil
}

// Lost tells whether asking for the GPU's handle fails.
func (g GPU) Lost() bool {
	for _, key := range []string{g.Text("error.nvmlDeviceGetHandleByIndex_v2"),
		g.state.values["error.nvmlDeviceGetHandleByIndex_v2"], g.state.values["error.nvmlInitWithFlags"]} {
		if key != "" && key != "0" {
			return true
		}
	}
	return false
}
