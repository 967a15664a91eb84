"""The layout of charts."""

from dataclasses import replace
from fractions import Fraction

from tunegate_client.ui.charts import BEST, HEIGHT, Measured, rate_chart, spark_line


def measured(*passed: int) -> list[Measured]:
    """Return models at the steps 0, 10, 20, … that passed so many of 100 cases."""
    return [
        Measured(10 * i, str(10 * i), f"step {10 * i}", n, 100, "Passed" if i else "")
        for i, n in enumerate(passed)
    ]


def test_chart_of_a_single_model_is_left_out() -> None:
    assert rate_chart("key", "title", measured(50), axis="step") is None
    assert spark_line([Fraction(1, 2)]) == ""


def test_points_lie_at_their_step_and_rate() -> None:
    chart = rate_chart("key", "title", measured(0, 50, 100), axis="step")
    assert chart
    assert [(p.x, p.y) for p in chart.points] == [(0, HEIGHT), (50, HEIGHT / 2), (100, 0)]


def test_labels_lie_where_the_curve_does_not_cross_them() -> None:
    start, middle, last = measured(10, 100, 90)
    best = replace(middle, marks=(BEST,))
    chart = rate_chart("key", "title", [start, best, last], axis="step")
    assert chart
    assert [(p.label, p.label_dx > 0, p.label_dy > 10) for p in chart.points] == [
        ("10 %", True, False),  # right of the start of a steep curve
        ("best 100 %", False, False),  # above the highest point
        ("90 %", False, True),  # below the end of a falling curve
    ]


def test_labels_that_would_overlap_are_left_out() -> None:
    models = measured(*[80] * 18, 90, 89)
    models[18] = replace(models[18], marks=(BEST,))
    chart = rate_chart("key", "title", models, axis="step")
    assert chart
    assert [p.label for p in chart.points if p.label] == ["80 %", "best 90 %"]


def test_axis_ends_at_the_last_step_of_the_stage() -> None:
    chart = rate_chart("key", "title", measured(10, 50), axis="step", end=40)
    assert chart
    assert [p.x for p in chart.points] == [0, 25]


def test_stop_line_follows_the_best_rate_before_each_model() -> None:
    models = [
        Measured(0, "0", "start", 20, 100),
        Measured(10, "10", "step 10", 90, 100, "Passed", best_so_far=Fraction(90, 100)),
        Measured(20, "20", "step 20", 80, 100, "Passed", best_so_far=Fraction(90, 100)),
        Measured(30, "30", "step 30", 85, 100, "Passed", best_so_far=Fraction(90, 100)),
    ]
    chart = rate_chart("key", "title", models, axis="step", drop_points=Fraction(5))
    assert chart
    levels = [round(100 * (1 - line.y1 / HEIGHT)) for line in chart.stop_line]
    assert levels == [15, 85, 85]


def test_many_models_have_few_labels_below() -> None:
    chart = rate_chart("key", "title", measured(*range(40, 60)), axis="step")
    assert chart
    assert [text for _, text in chart.ticks] == ["0", "30", "60", "90", "120", "150", "180"]


def test_spark_line_of_equal_rates_is_flat_and_small_changes_look_small() -> None:
    flat = {point.split(",")[1] for point in spark_line([Fraction(1, 2)] * 3).split()}
    assert flat == {"11.0"}
    ys = [float(point.split(",")[1]) for point in spark_line([Fraction(50, 100), Fraction(51, 100)]).split()]
    assert 0 < ys[0] - ys[1] < 2
