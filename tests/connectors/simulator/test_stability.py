import numpy as np
import pytest

from connectors.simulator.cutting import BENCHMARK, Engagement
from connectors.simulator.stability import Limit, limit, lobes, multiplier, pocket_distance

SLOT, HALF_DOWN = Engagement.slot(), Engagement.down(0.5)
HALF_UP, LOW_DOWN = Engagement.up(0.5), Engagement.down(0.1)
CASES = (SLOT, HALF_DOWN, HALF_UP, LOW_DOWN)

# Limits of the one-mode benchmark, computed independently by semi-discretisation: depth in mm, family, line in Hz.
TABLE = {
    5000: "0.42 H 943 | 0.86 H 936 | 0.27 H 942 | 1.31 H 936",
    6000: "0.36 H 938 | 1.15 H 915 | 0.23 H 938 | 1.74 H 914",
    7000: "1.25 H 942 | 2.56 H 1047 | 0.83 H 943 | 3.00 F 1050",
    8000: "0.69 H 960 | 0.80 H 967 | 0.41 H 958 | 1.23 H 967",
    9000: "2.99 H 1019 | 1.60 H 920 | 1.62 H 1043 | 2.49 H 920",
    9200: "3.05 H 1037 | 2.82 F 1073 | 1.93 H 1067 | 3.95 F 1073",
    9500: "0.64 H 925 | 2.58 F 792 | 0.43 H 925 | 3.38 F 792",
    10000: "0.33 H 930 | 2.11 F 833 | 0.22 H 930 | 2.52 F 833",
    11000: "0.62 H 956 | 1.09 H 946 | 0.37 H 954 | 1.77 H 946",
    12000: "2.13 F 1000 | 0.62 H 911 | 1.07 H 985 | 0.95 H 911",
    13000: "3.11 H 1024 | 0.93 H 918 | 1.89 F 1083 | 1.44 H 918",
    13830: "3.51 H 1072 | 3.18 F 1152 | 2.86 F 1152 | 6.39 F 1152",
    14500: "0.59 H 925 | 2.84 F 725 | 0.40 H 925 | 5.07 F 725",
    15000: "0.39 H 927 | 2.60 F 750 | 0.26 H 927 | 4.34 F 750",
    16000: "0.32 H 933 | 2.08 F 800 | 0.21 H 933 | 3.12 F 800",
    17000: "0.40 H 942 | 1.45 F 850 | 0.25 H 941 | 1.97 F 850",
    18000: "0.69 H 960 | 1.62 H 930 | 0.40 H 957 | 0.82 F 900",
    19000: "2.67 F 950 | 0.99 H 891 | 0.71 H 915 | 1.86 H 889",
    20000: "1.42 F 1000 | 0.72 H 903 | 1.19 H 978 | 1.22 H 902",
    22000: "3.12 F 1100 | 0.60 H 913 | 1.89 F 1100 | 0.96 H 913",
    24000: "3.74 H 1024 | 0.78 H 918 | 3.18 F 1200 | 1.22 H 917",
    25000: "3.94 H 1047 | 1.04 H 919 | 3.94 F 1250 | 1.63 H 919",
}
QUICK = ((5000, 1), (10000, 0), (10000, 1), (12000, 2), (16000, 3), (20000, 0), (20000, 1), (22000, 0))


def row(rpm: int, case: int) -> tuple[float, str, float]:
    depth, family, line = TABLE[rpm].split(" | ")[case].split()
    return float(depth), family, float(line)


def check(rpm: int, case: int, found: Limit) -> None:
    depth, family, line = row(rpm, case)
    assert found.depth_m * 1e3 == pytest.approx(depth, abs=0.0201), (rpm, case)
    assert found.family[0].upper() == family, (rpm, case)
    # Chatter lines come in pairs about multiples of the tooth passing: the table may name either.
    passing = BENCHMARK.teeth * rpm / 60.0
    apart = [
        abs(np.remainder(line - sign * found.frequency_hz + passing / 2, passing) - passing / 2) for sign in (1, -1)
    ]
    assert min(apart) < 1.5, (rpm, case, found)


@pytest.mark.parametrize(("rpm", "case"), QUICK)
def test_limits_match_the_table(rpm: int, case: int) -> None:
    check(rpm, case, limit(BENCHMARK, CASES[case], rpm))


@pytest.mark.slow
@pytest.mark.parametrize("rpm", TABLE)
def test_every_limit_matches_the_table(rpm: int) -> None:
    for case, engagement in enumerate(CASES):
        check(rpm, case, limit(BENCHMARK, engagement, rpm))


def test_air_cut_decays_with_the_modes_damping() -> None:
    tau = BENCHMARK.tooth_period(12000)
    expected = np.exp(-BENCHMARK.zeta * BENCHMARK.omega * tau)
    assert abs(multiplier(BENCHMARK, SLOT, 12000, 0.0)) == pytest.approx(expected, rel=1e-9)


def test_lobes_bottom_is_the_textbook_minimum() -> None:
    # Slot: mean coefficient N K_n / 4; smallest depth 2 k zeta (1 + zeta) / coefficient (Tlusty).
    coefficient = BENCHMARK.teeth * BENCHMARK.kn / 4.0
    expected = 2.0 * BENCHMARK.stiffness * BENCHMARK.zeta * (1.0 + BENCHMARK.zeta) / coefficient
    for lobe in (0, 1, 5):
        _, depth = lobes(BENCHMARK, SLOT, lobe, np.linspace(900.0, 990.0, 20_001))
        assert depth.min() == pytest.approx(expected, rel=1e-4)


def test_lobes_agree_with_floquet_in_a_slot() -> None:
    rpm, depth = lobes(BENCHMARK, SLOT, 2, np.linspace(923.0, 1100.0, 5000))
    order = np.argsort(rpm)
    zeroth = np.interp(10_000.0, rpm[order], depth[order])
    assert zeroth == pytest.approx(limit(BENCHMARK, SLOT, 10_000.0).depth_m, rel=0.1)


def test_pockets() -> None:
    assert pocket_distance(BENCHMARK, 13_830.0) < 1e-6
    assert pocket_distance(BENCHMARK, 9_220.0) < 1e-6
    assert pocket_distance(BENCHMARK, 11_000.0) > 0.1


def test_engagement_is_cut_off_within_a_step() -> None:
    width = 2 * np.pi / 37
    phi = width * np.arange(37)
    for engagement in (SLOT, HALF_DOWN, HALF_UP, LOW_DOWN):
        assert np.sum(engagement.gate(phi, width)) * width == pytest.approx(
            engagement.exit - engagement.start, rel=1e-12
        )
        np.testing.assert_allclose(engagement.gate(phi + 4 * np.pi, width), engagement.gate(phi, width), atol=1e-12)
