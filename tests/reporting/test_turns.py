"""Reports are throttled per job, so that one job cannot use all of the parser's time."""

import asyncio
import time

from tunegate_operator.reporting.turns import PARSER_SHARE, Turns


def test_one_report_of_a_job_is_processed_at_once():
    async def run() -> list[str]:
        turns, order = Turns(), []

        async def take(job: str) -> None:
            async with turns.turn(job):
                order.append(f"+{job}")
                await asyncio.sleep(0.01)
                order.append(f"-{job}")

        await asyncio.gather(take("a"), take("a"), take("b"))
        return order

    order = asyncio.run(run())
    assert order[:2] == ["+a", "+b"]
    assert [entry for entry in order if entry.endswith("a")] == ["+a", "-a", "+a", "-a"]


def test_next_report_waits_a_multiple_of_last_cpu_time():
    async def run() -> tuple[float, float]:
        turns, loop = Turns(), asyncio.get_running_loop()
        async with turns.turn("slow") as turn:
            turn.seconds = 0.02
        began = loop.time()
        async with turns.turn("other"):
            other = loop.time() - began
        async with turns.turn("slow"):
            return loop.time() - began, other

    slow, other = asyncio.run(run())
    assert slow >= 0.02 * PARSER_SHARE * 0.95
    assert other < slow


def test_cpu_time_of_a_refused_report_delays_the_next():
    async def run() -> float:
        turns, loop = Turns(), asyncio.get_running_loop()
        try:
            async with turns.turn("slow") as turn:
                with turn.measured():
                    began = time.thread_time()
                    while time.thread_time() < began + 0.02:
                        pass
                    raise ValueError
        except ValueError:
            began = loop.time()
        async with turns.turn("slow"):
            return loop.time() - began

    assert asyncio.run(run()) >= 0.02 * PARSER_SHARE * 0.95
