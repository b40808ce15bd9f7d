"""Images without a container engine, and the packages of Kubernetes: bytes, names and contents."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from lab import archives, images, kubernetes_packages, programs
from lab.archives import Image
from lab.go import Program
from lab.packages import link
from lab.programs import KUBERNETES, PROGRAMS

LAB = Path(__file__).parents[1] / "lab"


@pytest.fixture
def image(tmp_path: Path) -> Image:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    return Image(("registry.example/thing:1", "other.example/thing:1"),
                 {"usr/local/bin/deep/program": program, "top": program},
                 ("/top",), {"usr/bin/again": "../local/bin/deep/program"})


def layer_of(archive: tarfile.TarFile, entry: dict[str, list[str]]) -> tarfile.TarFile:
    file = archive.extractfile(entry["Layers"][0])
    assert file is not None
    return tarfile.open(fileobj=io.BytesIO(gzip.decompress(file.read())))


def test_the_same_files_give_the_same_bytes(tmp_path: Path, image: Image) -> None:
    archives.write_archive(tmp_path / "a.tar", [image])
    os.utime(tmp_path / "program", (1, 1))
    (tmp_path / "program").chmod(0o700)
    archives.write_archive(tmp_path / "b.tar", [image])
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar", "b.tar", "program"]


def test_an_archive_is_what_containerd_imports(tmp_path: Path, image: Image) -> None:
    archives.write_archive(tmp_path / "a.tar", [image])
    with tarfile.open(tmp_path / "a.tar") as archive:
        [entry] = json.load(archive.extractfile("manifest.json") or io.BytesIO())
        assert entry["RepoTags"] == list(image.names)
        config_bytes = (archive.extractfile(entry["Config"]) or io.BytesIO()).read()
        assert entry["Config"] == hashlib.sha256(config_bytes).hexdigest() + ".json"
        config = json.loads(config_bytes)
        packed = (archive.extractfile(entry["Layers"][0]) or io.BytesIO()).read()
        assert config["rootfs"]["diff_ids"] == [f"sha256:{hashlib.sha256(gzip.decompress(packed)).hexdigest()}"]
        assert config["config"]["Entrypoint"] == ["/top"]
        layer = layer_of(archive, entry)
        members = {member.name: member for member in layer.getmembers()}
    assert members["usr/local/bin/deep"].isdir()
    assert members["usr/local/bin/deep/program"].mode == 0o755
    assert members["bin"].linkname == "usr/bin"
    assert members["usr/bin/again"].linkname == "../local/bin/deep/program"
    assert members["tmp"].mode == 0o1777
    assert {(m.uid, m.gid, m.mtime, m.uname) for m in members.values()} == {(0, 0, 0, "")}
    names = list(members)
    assert all(names.index(str(Path(name).parent)) < names.index(name) for name in names if "/" in name)


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot needs root")
def test_a_program_brings_its_libraries() -> None:
    files = archives.closure(Path("/"), ("usr/bin/env",))
    assert files["usr/bin/env"] == Path("/usr/bin/env").resolve()
    assert any("libc.so" in place for place in files)
    assert any("ld-linux" in place for place in files)
    assert all(place.startswith("usr/") and path.is_file() for place, path in files.items())


def test_a_tree_leaves_out_what_is_not_wanted(tmp_path: Path) -> None:
    for name in ("lib/a.py", "lib/sub/b.py", "lib/test/c.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert list(archives.tree(tmp_path, "lib", ["test"])) == ["lib/a.py", "lib/sub/b.py"]


@pytest.fixture
def lab_archives(monkeypatch: pytest.MonkeyPatch) -> tuple[images.Archive, ...]:
    monkeypatch.setattr(archives, "closure", lambda _root, programs: {name: Path("/dev/null") for name in programs})
    monkeypatch.setattr(archives, "tree", lambda *_: {})
    return images.all_archives(Path("/nowhere"))


def test_the_names_are_those_that_kubeadm_asks_for(lab_archives: tuple[images.Archive, ...]) -> None:
    names = {name for archive in lab_archives for image in archive.images for name in image.names}
    wanted = (Path(__file__).parent / "data/kubeadm-1.34.4-config-images-list.txt").read_text().split()
    assert KUBERNETES == "1.34.4"
    assert set(wanted) <= names
    kubeadm = PROGRAMS["kubeadm"].built
    if kubeadm.exists():
        said = subprocess.run([kubeadm, "config", "images", "list", "--kubernetes-version", f"v{KUBERNETES}"],
                              capture_output=True, text=True, timeout=60, check=True).stdout.split()
        assert said == wanted


def test_nodes_import_what_pods_of_nodes_run(lab_archives: tuple[images.Archive, ...]) -> None:
    node = next(archive for archive in lab_archives if archive.hosts == "all")
    names = {name for image in node.images for name in image.names}
    assert {images.PAUSE, images.STAND_IN} <= names
    assert not any("apiserver" in name or "etcd" in name for name in names)


def test_charts_ask_for_images_that_the_archives_hold() -> None:
    held = {images.STAND_IN, *images.BUSYBOX_NAMES, f"{images.REGISTRY}/metrics-server/metrics-server:v"
            f"{programs.METRICS_SERVER}", f"docker.io/rancher/local-path-provisioner:v{programs.LOCAL_PATH}"}
    asked = {(values.parent.name, key, image) for values in LAB.glob("charts/*/values.yaml")
             for key, image in yaml.safe_load(values.read_text()).items() if key.lower().endswith("image")}
    assert {chart for chart, _, _ in asked} == {path.name for path in (LAB / "charts").iterdir()}
    assert {one for one in asked if one[2] not in held} == set()


def test_another_program_is_another_archive(tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEPTANCE_CACHE", str(tmp_path))
    archive = images.Archive("node", "all", (image,))
    before = images._digest(archive)
    (tmp_path / "program").write_text("#!/bin/bash\n")
    assert images._digest(archive) != before


@pytest.fixture
def tiny_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scripts in place of the three programs; the cache to build packages in."""
    monkeypatch.setenv("ACCEPTANCE_CACHE", str(tmp_path))
    (tmp_path / "built").mkdir()
    programs = {name: Program(name, "kubernetes", "-", KUBERNETES, 1) for name in ("kubelet", "kubeadm", "kubectl")}
    for name, program in programs.items():
        program.built.write_text(f"#!/bin/sh\necho {name}\n")
        program.built.chmod(0o755)
    monkeypatch.setattr(kubernetes_packages, "PROGRAMS", programs)
    return tmp_path


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no Debian build tools")
def test_packages_are_named_and_laid_out_like_upstreams(tiny_programs: Path) -> None:
    folder = kubernetes_packages.packages(tiny_programs)
    assert sorted(path.name for path in folder.iterdir()) == [
        f"{name}_{KUBERNETES}-1.1_amd64.deb" for name in ("kubeadm", "kubectl", "kubelet")]
    root = tiny_programs / "root"
    for deb in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "--extract", deb, root], check=True, timeout=60)
    assert (root / "usr/bin/kubelet").stat().st_mode & 0o777 == 0o755
    assert "ExecStart=/usr/bin/kubelet" in (root / "usr/lib/systemd/system/kubelet.service").read_text()
    drop_in = (root / "usr/lib/systemd/system/kubelet.service.d/10-kubeadm.conf").read_text()
    assert "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=" in drop_in
    # an empty ExecStart first: a drop-in would else add a second one, which systemd refuses
    assert drop_in.index("ExecStart=\n") < drop_in.index("ExecStart=/usr/bin/kubelet")
    assert kubernetes_packages.packages(tiny_programs) == folder


def test_a_link_replaces_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("new")
    (tmp_path / "b").write_text("old")
    link(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "new"


def test_the_python_image_holds_no_packages_of_the_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("os.py", "test/test_os.py", "dist-packages/numpy/core/multiarray.so"):
        path = tmp_path / "usr/lib/python3.11" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setattr(archives, "closure", lambda root, programs: {name: root / name for name in programs})
    found = images._python(tmp_path).files
    assert [place for place in found if "python3.11/" in place] == ["usr/lib/python3.11/os.py"]
