"""What the benchmark found, for people."""

from typing import Any

from pipeline.benchmarks.serving.measure import PLAIN, PRODUCT


def table(result: dict[str, Any]) -> str:
    """The figures of `benchmark_serving` as lines of text."""
    lines = [f"{'server':<14}{'callers':>8}{'req/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'CPU us':>11}"]
    for name, by_callers in result["servers"].items():
        for callers, found in by_callers.items():
            figures = f"{found['requests_a_second']:>10,.0f}{found['p50_ms']:>10,.2f}{found['p99_ms']:>10,.2f}"
            lines.append(f"{name:<14}{callers:>8}{figures}{found['cpu_us']:>11,.0f}")
    lines += [f"skipped: {name}: {why}" for name, why in result["skipped"].items()]
    plain = result["ratios"][PLAIN]["cpu"]
    lines.append(f"\na request on {PRODUCT} takes {1 / plain:.1f}x the processor time of plain FastAPI's;")
    lines += [
        f"on {name} {ratio['cpu']:,.1f}x that of {PRODUCT}, and {ratio['p50']:,.1f}x its p50 at one caller"
        for name, ratio in result["ratios"].items()
        if name != PLAIN
    ]
    for kind, what in (("swap", "while models are swapped"), ("batch", "while a batch is scored")):
        found = result[kind]
        lines.append(
            f"at {result['rate']:.0f} requests a second p99 is {found['p99_ms']:.2f} ms {what}, "
            f"{found['without']['p99_ms']:.2f} ms otherwise ({found['p99_ratio']:.2f}x)"
        )
    lines.append("\nthe most memory, MiB: " + ", ".join(f"{name} {n:,}" for name, n in result["memory_mib"].items()))
    lines.append("\nwhere the processor time of a request goes, microseconds:")
    lines += [f"  {part:<30}{spent:>8,.1f}" for part, spent in result["parts_us"].items()]
    return "\n".join(lines)
