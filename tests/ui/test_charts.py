"""The layout of charts."""

from fractions import Fraction

from tunegate_client.ui.charts import HEIGHT, GoldenResult, rate_chart, spark_line


def measured(*passed: int) -> list[GoldenResult]:
    """Return the versions 1, 2, 3, … that passed so many of 100 cases."""
    return [GoldenResult(i, f"version {i}", n, 100, "Passed") for i, n in enumerate(passed, start=1)]


def test_chart_of_a_single_version_is_left_out() -> None:
    assert rate_chart(measured(50)) is None
    assert spark_line([Fraction(1, 2)]) == ""


def test_points_lie_at_their_version_and_rate() -> None:
    chart = rate_chart(measured(0, 50, 100))
    assert chart
    assert [(p.x, p.y) for p in chart.points] == [(0, HEIGHT), (50, HEIGHT / 2), (100, 0)]


def test_labels_lie_where_the_curve_does_not_cross_them() -> None:
    chart = rate_chart(measured(10, 100, 90))
    assert chart
    assert [(p.label, p.label_dx > 0, p.label_dy > 10) for p in chart.points] == [
        ("10 %", True, False),  # right of the start of a steep curve
        ("", False, False),
        ("90 %", False, True),  # below the end of a falling curve
    ]


def test_required_rate_is_a_line() -> None:
    chart = rate_chart(measured(70, 90), Fraction(80, 100))
    assert chart
    assert (chart.required, chart.required_text) == (HEIGHT / 5, "80 %")
    assert chart.words.endswith("Required: 80 %")


def test_many_versions_have_few_labels_below() -> None:
    chart = rate_chart(measured(*range(40, 60)))
    assert chart
    assert [text for _, text in chart.ticks] == ["1", "4", "7", "10", "13", "16", "19"]


def test_spark_line_shows_equal_rates_flat_and_small_changes_small() -> None:
    flat = {point.split(",")[1] for point in spark_line([Fraction(1, 2)] * 3).split()}
    assert flat == {"11.0"}
    ys = [float(point.split(",")[1]) for point in spark_line([Fraction(50, 100), Fraction(51, 100)]).split()]
    assert 0 < ys[0] - ys[1] < 2
