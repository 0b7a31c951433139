"""The schedules of scripts/schedules, verified as far as one machine can.

    scripts/schedules-check

Exit status 0 if nothing is wrong; what could not be tried here is said.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from xscan import open_results
from xscan.simulate import simulate_archive

HERE = Path(__file__).resolve().parents[2] / "scripts" / "schedules"
EXPOSURE_S = 600.0

SBATCH = """#!/usr/bin/env bash
# plays Slurm: takes a copy of the script, and runs it as a process of its own
job=$(mktemp "$JOBS/job.XXXX")
cp "${@: -1}" "$job"
nohup setsid bash "$job" > "$job.out" 2>&1 &
echo $! >> "$JOBS/pids"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/usr/bin/env bash
kill -- "-${@: -1}" 2> /dev/null || true
"""


def report(what: str, trouble: str = "") -> bool:
    """Print a line; say whether all is well."""
    print(f"{'FAILED' if trouble else 'well'}  {what}{': ' + trouble if trouble else ''}", flush=True)
    return not trouble


def output_of(*command: str | Path, **environment: str) -> str:
    """Run a command that should say nothing; give what it said, and its status if that is not 0."""
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    return (done.stdout + done.stderr).strip() + (f" (status {done.returncode})" if done.returncode else "")


def check_shell() -> bool:
    """Let bash read every script."""
    paths = [HERE / "reprocess.sh", HERE / "xscan.slurm"]
    return all(report(f"bash -n {path.name}", output_of("bash", "-n", path)) for path in paths)


def check_systemd(work: Path) -> bool:
    """Let systemd verify the units, and say when the timer would run."""
    if shutil.which("systemd-analyze") is None:
        print("skip  systemd units: no systemd-analyze here")
        return True
    units = [HERE / "xscan-reprocess.service", HERE / "xscan-reprocess.timer"]
    said = output_of("systemd-analyze", "--user", "verify", *units, XDG_RUNTIME_DIR=str(work))
    return report("systemd-analyze verify", said)


def check_cron() -> bool:
    """Look at the five fields and let bash read the command."""
    lines = [line for line in (HERE / "xscan.cron").read_text().splitlines() if not line.startswith("#")]
    fields = [line.split(None, 5) for line in lines]
    odd = [line for line, parts in zip(lines, fields, strict=True) if len(parts) != 6 or "%" in parts[5]]
    return report("xscan.cron", f"not a line for cron: {odd}" if odd or not lines else "") and all(
        report("bash -n, its command", output_of("bash", "-n", "-c", parts[5])) for parts in fields
    )


def check_kubernetes() -> bool:
    """Hold the manifests against the schemas of Kubernetes."""
    command = [sys.executable, "-m", "kubernetes_validate", "--strict", "--quiet", str(HERE / "kubernetes.yaml")]
    return report("kubernetes.yaml against its schemas", output_of(*command))


def environment(work: Path, data: Path, fetch: str) -> dict[str, str]:
    """Give the settings of reprocess.sh for simulated observations."""
    return {
        "XSCAN_OBSLIST": str(data / "observations.txt"),
        "XSCAN_DATA": str(data),
        "XSCAN_RELEASES": str(work / "releases"),
        "XSCAN_FETCH": fetch,
        "XSCAN_OPTIONS": "--view 50:0.2-12 --log-format json",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{work / 'bin'}{os.pathsep}{os.environ['PATH']}",
    }


def check_reprocess(work: Path, data: Path) -> bool:
    """Run cron's command, and with it what all schedules run, as cron does: in a home, with sh, the first time."""
    settings = environment(work, data, "no") | {"XSCAN_RELEASES": str(work / "alone")}
    place = work / "home" / "xscan" / "scripts" / "schedules"
    shutil.copytree(HERE, place)
    lines = [f"{name}={shlex.quote(value)}\n" for name, value in settings.items() if name != "PATH"]
    (place / "xscan.env").write_text("".join(lines))
    command = (HERE / "xscan.cron").read_text().splitlines()[-1].split(None, 5)[-1]
    home = os.environ | {"HOME": str(work / "home"), "PATH": settings["PATH"]}
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, env=home)
    made = list((work / "alone").glob("*/_release.json"))
    return report(
        "cron's command, reprocess.sh",
        (done.stderr or "nothing made")[-500:] if done.returncode or len(made) != 1 else "",
    )


def stopped_on_slurm(command: list[str | Path], work: Path, settings: dict[str, str]) -> bool:
    """Stop the coordinator as soon as a release is begun, as Slurm does at the end of its time."""
    coordinator = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=os.environ | settings, cwd=work, start_new_session=True
    )
    said = ""
    for said in coordinator.stderr or ():
        if "Dask dashboard" in said:
            break
    coordinator.send_signal(signal.SIGTERM)
    said += coordinator.communicate(timeout=120)[1]
    status = coordinator.returncode
    return report(
        "Slurm, played: stopped in order",
        "" if status == 143 and "SIGTERM" in said else f"status {status}: {said[-500:]}",
    )


def check_slurm(work: Path, data: Path) -> bool:
    """Make a release with dask-jobqueue on a Slurm that is played here; it must be the one made without."""
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        path = work / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    jobs = work / "jobs"
    jobs.mkdir()
    settings = environment(work, data, "no") | {"JOBS": str(jobs)}
    command = [sys.executable, HERE / "slurm_reprocess.py", "--jobs", "2", "--memory", "2GB", "--interface", "lo"]
    if not stopped_on_slurm(command, work, settings):
        return False
    # goes on
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | settings, cwd=work, timeout=300)
    submitted = len((jobs / "pids").read_text().split()) if (jobs / "pids").exists() else 0
    for _ in range(50):  # jobs end by themselves when their scheduler does
        if not subprocess.run(["pgrep", "-f", shlex.quote(str(jobs))], capture_output=True).stdout:
            break
        time.sleep(0.2)
    if done.returncode:
        return report("Slurm, played", done.stderr[-800:])
    hashes = {
        open_results(path.parent).content_digest()
        for where in ("alone", "releases")
        for path in (work / where).glob("*/_release.json")
    }
    return report(
        f"Slurm, played: {submitted} jobs submitted, the same results",
        "" if len(hashes) == 1 and submitted >= 2 else f"{len(hashes)} different results",
    )


def main() -> int:
    """Try everything; 0 if all is well."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = work / "data"
        simulate_archive(data, 6, 11, EXPOSURE_S)
        checks = [check_shell(), check_cron(), check_systemd(work), check_kubernetes()]
        checks += [check_reprocess(work, data), check_slurm(work, data)]
    print("all well" if all(checks) else "not all is well")
    return 0 if all(checks) else 1


if __name__ == "__main__":
    sys.exit(main())
