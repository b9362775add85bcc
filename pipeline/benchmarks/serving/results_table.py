"""The benchmark's results as text."""

from typing import Any

from pipeline.benchmarks.serving.measure import PLAIN, PRODUCT


def serving_table(result: dict[str, Any]) -> str:
    """The result of `benchmark_serving` as lines of text."""
    lines = [f"{'server':<14}{'callers':>8}{'req/s':>10}{'p50 ms':>10}{'p99 ms':>10}{'CPU us':>11}"]
    for name, by_callers in result["servers"].items():
        for callers, results in by_callers.items():
            latencies = f"{results['p50_ms']:>10,.2f}{results['p99_ms']:>10,.2f}"
            requests = f"{results['requests_a_second']:>10,.0f}"
            lines.append(f"{name:<14}{callers:>8}{requests}{latencies}{results['cpu_us']:>11,.0f}")
    lines += [f"skipped: {name}: {reason}" for name, reason in result["skipped"].items()]
    plain = result["ratios"][PLAIN]["cpu"]
    lines.append(f"\na request to {PRODUCT} takes {1 / plain:.1f}x the CPU time of one to plain FastAPI;")
    lines += [
        f"one to {name} takes {ratio['cpu']:,.1f}x that of {PRODUCT}, and {ratio['p50']:,.1f}x its p50 with one caller"
        for name, ratio in result["ratios"].items()
        if name != PLAIN
    ]
    for kind, what in (("swap", "while models are promoted"), ("batch", "while a batch is scored")):
        effect = result[kind]
        lines.append(
            f"at {result['rate']:.0f} requests per second, p99 is {effect['p99_ms']:.2f} ms {what}, "
            f"{effect['without']['p99_ms']:.2f} ms otherwise ({effect['p99_ratio']:.2f}x)"
        )
    lines.append("\npeak memory, MiB: " + ", ".join(f"{name} {n:,}" for name, n in result["memory_mib"].items()))
    lines.append("\nCPU time of a request by part, microseconds:")
    lines += [f"  {part:<30}{spent:>8,.1f}" for part, spent in result["parts_us"].items()]
    return "\n".join(lines)
