from __future__ import annotations

import numpy as np
import pytest

from vrseg.demo.skeleton import JOINTS, Build, pose
from vrseg.demo.walk import LAP_S, closest_m, plan_walk

BUILD = Build(height_m=1.75, girth=1.0, shoulder=0.105, hip=0.054, gesture="none")


@pytest.mark.parametrize("seed", range(6))
def test_a_lap_ends_where_it_began(seed: int) -> None:
    walk = plan_walk(np.random.default_rng(seed), (0, 5), (2, 0.7))
    first, last = walk.at(0), walk.at(LAP_S - 1e-6)
    assert np.hypot(first.x_m - last.x_m, first.z_m - last.z_m) < 0.02
    assert np.cos(first.heading_rad - last.heading_rad) > 0.99
    assert walk.at(LAP_S + 1).phase_rad > walk.at(1).phase_rad


def test_a_lap_shows_a_figure_from_all_sides() -> None:
    walk = plan_walk(np.random.default_rng(1), (0, 5), (2, 0.7))
    headings = np.array([walk.at(time_s).heading_rad for time_s in np.linspace(0, LAP_S, 200)])
    quarters = np.unique(np.round(headings / (np.pi / 2)).astype(int) % 4)
    assert len(quarters) == 4


@pytest.mark.parametrize("seed", range(4))
def test_the_foot_that_carries_does_not_slide(seed: int) -> None:
    walk = plan_walk(np.random.default_rng(seed), (0, 5), (2, 0.7))
    ankles = [JOINTS.index("left_ankle"), JOINTS.index("right_ankle")]
    step_s = 1 / 60
    slides, speeds = [], []
    for time_s in np.arange(0, LAP_S, step_s):
        before, after = (pose(BUILD, walk.at(t), t).joints for t in (time_s, time_s + step_s))
        here, there = walk.at(time_s), walk.at(time_s + step_s)
        if here.stride < 0.8:
            continue
        moved = np.linalg.norm((after - before)[ankles][:, [0, 2]], axis=1)
        slides.append(moved.min())
        speeds.append(np.hypot(there.x_m - here.x_m, there.z_m - here.z_m))
    assert np.mean(slides) < 0.35 * np.mean(speeds)


def test_somebody_stands_on_the_floor() -> None:
    walk = plan_walk(np.random.default_rng(2), (0, 5), (2, 0.7))
    for time_s in np.linspace(0, LAP_S, 60):
        body = pose(BUILD, walk.at(time_s), time_s)
        assert -0.01 < body.toes[:, 1].min() < 0.12
        assert body.joints[:, 1].min() > 0
        assert 0.93 * BUILD.height_m < body.joint("head")[1] + 0.071 * BUILD.height_m < 1.02 * BUILD.height_m


def test_bones_keep_their_length() -> None:
    walk = plan_walk(np.random.default_rng(3), (0, 5), (2, 0.7))
    lengths = [
        np.linalg.norm(body.joint("left_knee") - body.joint("left_hip"))
        for body in (pose(BUILD, walk.at(t), t) for t in np.linspace(0, LAP_S, 50))
    ]
    assert np.ptp(lengths) < 1e-4


def test_two_walks_on_one_path_meet() -> None:
    walk = plan_walk(np.random.default_rng(3), (0, 5), (2, 0.7))
    apart = plan_walk(np.random.default_rng(3), (0, 9), (2, 0.7))
    assert closest_m(walk, walk) == 0
    assert closest_m(walk, apart) == pytest.approx(4, abs=1e-3)
