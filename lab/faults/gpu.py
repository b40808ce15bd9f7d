"""Faults of GPUs: keys of the state file that the mock NVML reads at every call."""

from __future__ import annotations

from lab.faults.base import Change, CommandFault, Expect, Fault, FileFault, chain, line_set

STATE = "/var/lib/lab-gpu/state.ini"


def gpu_fault(name: str, breaks: str, check: str, *changes: tuple[str, str], subject: str = "{host}/gpu2",
              also: tuple[Expect, ...] = ()) -> FileFault:
    """A fault that sets keys of the state file and must turn `check` red on `subject`."""
    change: Change = chain(*(line_set(key, value) for key, value in changes))
    return FileFault(name, breaks, (Expect(check, subject), *also), path=STATE, change=change)


def _first_gpus_uuid(text: str) -> str:
    uuid = next(line.split("=")[1].strip() for line in text.splitlines() if line.startswith("gpu0.uuid"))
    return line_set("gpu2.uuid", uuid)(text)


FAULTS: tuple[Fault, ...] = (
    gpu_fault("gpu-gone", "a GPU fell off the bus", "gpu-inventory", ("count", "3"), subject="{host}*",
              also=(Expect("gpu-uuids", "*", required=False), Expect("gpu-topology", "{host}*", required=False))),
    gpu_fault("gpu-other-model", "a GPU of another model was fitted", "gpu-inventory",
              ("gpu2.name", "NVIDIA A30"), ("gpu2.memory_mib", "24576")),
    FileFault("gpu-uuid-twice", "two GPUs report one UUID",
              (Expect("gpu-uuids", "*"), Expect("gpu-inventory", "{host}*", required=False)),
              path=STATE, change=_first_gpus_uuid),
    gpu_fault("gpu-driver-older", "one node has an older driver", "gpu-driver", ("driver_version", "470.57.02"),
              subject="{host}*"),
    gpu_fault("gpu-vbios-differs", "one GPU has another VBIOS", "gpu-driver", ("gpu2.vbios", "92.00.19.00.01")),
    gpu_fault("gpu-cuda-older", "one node's driver supports an older CUDA", "gpu-driver", ("cuda_version", "11040"),
              subject="{host}*"),
    gpu_fault("gpu-ecc-uncorrected", "an uncorrected memory error", "gpu-ecc", ("gpu2.ecc_uncorrected_volatile", "1")),
    gpu_fault("gpu-ecc-corrected", "corrected memory errors above the limit", "gpu-ecc",
              ("gpu2.ecc_corrected_volatile", "5000")),
    gpu_fault("gpu-remap-pending", "a row remap waits for a reset", "gpu-ecc", ("gpu2.remap_pending", "1")),
    gpu_fault("gpu-remap-failed", "a row remap failed", "gpu-ecc", ("gpu2.remap_failed", "1")),
    gpu_fault("gpu-ecc-off", "ECC is off", "gpu-ecc", ("gpu2.ecc_current", "0"), ("gpu2.ecc_pending", "0")),
    gpu_fault("gpu-pcie-width-8", "a GPU runs on eight lanes", "gpu-pcie", ("gpu2.pcie_width", "8")),
    gpu_fault("gpu-pcie-generation-3", "a GPU runs at PCIe generation 3", "gpu-pcie",
              ("gpu2.pcie_generation", "3"), ("gpu2.pcie_generation_max", "3")),
    gpu_fault("gpu-persistence-off", "persistence mode is off", "gpu-settings", ("gpu2.persistence", "0")),
    gpu_fault("gpu-mig-on", "MIG is on", "gpu-settings", ("gpu2.mig", "1")),
    gpu_fault("gpu-power-limit-200", "the power limit is 200 W", "gpu-settings", ("gpu2.power_limit_w", "200")),
    gpu_fault("gpu-hot", "a GPU is at 95 °C", "gpu-thermals", ("gpu2.temperature_c", "95")),
    gpu_fault("gpu-hw-slowdown", "hardware slows a GPU down", "gpu-thermals", ("gpu2.throttle_reasons", "8")),
    gpu_fault("gpu-stray-process", "someone computes on a GPU", "gpu-idle", ("gpu2.processes", "4242:python3:2048")),
    gpu_fault("gpu-nvml-call-fails", "the temperature of one GPU cannot be read", "gpu-thermals",
              ("gpu2.error.nvmlDeviceGetTemperature", "999")),
    CommandFault(
        "nic-on-other-socket", "the fabric port hangs on the other socket",
        (Expect("gpu-topology", "{host}*"),),
        inject_command="echo 1 > /sys/class/net/ens3f0np0/device/numa_node",
        clear_command="echo 0 > /sys/class/net/ens3f0np0/device/numa_node",
    ),
    CommandFault(
        "gpu-replays-grow", "PCIe replays of a GPU grow",
        (Expect("gpu-pcie", "{host}/gpu2"),),
        inject_command=(
            "systemd-run --quiet --unit lab-fault-replays sh -c 'n=0; while sleep 0.1; do n=$((n+1)); "
            f"sed -i \"s/^gpu2.pcie_replays.*/gpu2.pcie_replays = $n/\" {STATE}; done'"
        ),
        clear_command=(
            f"systemctl stop lab-fault-replays; sed -i 's/^gpu2.pcie_replays.*/gpu2.pcie_replays = 0/' {STATE}"
        ),
    ),
    FileFault("nvidia-smi-disagrees", "nvidia-smi and NVML tell different stories",
              (Expect("gpu-inventory", "{host}*"),), path="/usr/local/bin/nvidia-smi", create=True,
              change=lambda _: "#!/bin/sh\n/usr/bin/nvidia-smi \"$@\" | head -n 3\n",
              after="[ ! -e /usr/local/bin/nvidia-smi ] || chmod 0755 /usr/local/bin/nvidia-smi"),
)
