"""The clock jumps by hours while a system runs: no association ends by it, no study is ready too soon or too late."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
import pytest
from pydicom import dcmread

from orchestrator.dicom.bounded import BoundedEntity
from orchestrator.service.receiving import ABANDONED
from tests.dicom_peers import CT, EXPLICIT, LOOPBACK
from tests.house import MODALITY, House, house, write_limb_study

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOUR_S = 3600
QUIET_S = 5.0
RULES = [{"name": "CT", "when": {"field": "series.modality", "eq": "CT"}, "run": ["bone_ct"], "send": []}]
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long ahead_s(void) {
  long seconds = 0;
  FILE *file = fopen(getenv("AHEAD_FILE"), "r");
  if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
  return seconds;
}
int clock_gettime(clockid_t which, struct timespec *told) {
  int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(which, told);
  if (!failed && which == CLOCK_REALTIME) told->tv_sec += ahead_s();
  return failed;
}
int gettimeofday(struct timeval *told, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  told->tv_sec = now.tv_sec; told->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *told) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (told) *told = now.tv_sec;
  return now.tv_sec;
}
"""


@dataclass
class Site:
    """An embedded system whose machine has a clock that `set_ahead` sets."""

    tendon: House
    ahead: Path

    def set_ahead(self, hours: float) -> None:
        temporary = self.ahead.with_suffix(".new")
        temporary.write_text(str(int(hours * HOUR_S)))
        temporary.rename(self.ahead)

    def send(self, images: list[Path], *, ahead: float, ahead_at_the_end: float) -> float:
        """In one association during which the clock jumps, and again when it has ended; gives when it did."""
        entity = BoundedEntity(MODALITY)
        entity.add_requested_context(CT, EXPLICIT)
        association = entity.associate(LOOPBACK, self.tendon.dicom_port, ae_title="TENDON")
        half = len(images) // 2
        statuses = [association.send_c_store(path).Status for path in images[:half]]
        self.set_ahead(ahead)
        time.sleep(2)  # longer than both threads of the association sleep: they look at their timers
        statuses += [association.send_c_store(path).Status for path in images[half:]]
        assert association.is_established
        assert set(statuses) == {0}
        association.release()
        ended_s = time.monotonic()
        self.set_ahead(ahead_at_the_end)
        return ended_s

    def received(self, image: Path) -> tuple[int, set[str]]:
        """How many objects of its study came, and how the associations ended by which they did."""
        with self.tendon.records.reading() as unit:
            study = unit.studies.get(str(dcmread(image, stop_before_pixels=True).StudyInstanceUID))
            instances = [instance for series in study.series for instance in series.instances] if study else []
            visits = {instance.association_id for instance in instances}
            return len(instances), {unit.studies.association(visit).outcome for visit in visits}


@pytest.fixture
def site(tmp_path) -> Iterator[Site]:
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler to make a clock that can be set")
    (tmp_path / "ahead.c").write_text(SOURCE)
    library = tmp_path / "ahead.so"
    command = ["cc", "-shared", "-fPIC", "-o", library, tmp_path / "ahead.c", "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    ahead = tmp_path / "ahead"
    ahead.write_text("0")
    changed = {"LD_PRELOAD": str(library), "AHEAD_FILE": str(ahead), "TENDON_QUIET_SECONDS": str(QUIET_S)}
    with house(tmp_path, RULES, **changed) as tendon:
        tendon.start()
        yield Site(tendon, ahead)


@pytest.mark.parametrize("hours", [3.0, -3.0])
def test_a_clock_that_jumps_ends_no_association_and_makes_no_study_ready_too_soon_or_too_late(site, tmp_path, hours):
    images = write_limb_study(tmp_path / "study", with_region=False)
    ended_s = site.send(images, ahead=hours, ahead_at_the_end=3 * hours)
    site.tendon.until(lambda: len(site.tendon.jobs()) == 1)
    assert time.monotonic() - ended_s >= QUIET_S
    assert site.received(images[0]) == (len(images), {"released"})
    told = httpx.get(f"http://{LOOPBACK}:{site.tendon.admin_port}/readyz").json()
    assert told["checks"]["clock"]["status"] == "warn"
    assert "start it again" in site.tendon.tendon("check", "--json", expect=None)


def test_a_system_that_dies_and_starts_again_at_an_earlier_time_has_ended_the_associations_of_its_former_life(
    site, tmp_path
):
    images = write_limb_study(tmp_path / "study", with_region=False)
    entity = BoundedEntity(MODALITY)
    entity.add_requested_context(CT, EXPLICIT)
    association = entity.associate(LOOPBACK, site.tendon.dicom_port, ae_title="TENDON")
    assert {association.send_c_store(path).Status for path in images} == {0}
    site.tendon.kill()
    site.set_ahead(-3)
    site.tendon.start()
    site.tendon.until(lambda: site.received(images[0]) == (len(images), {ABANDONED}))
