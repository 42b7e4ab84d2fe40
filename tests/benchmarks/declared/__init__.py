"""What Millpond is asked for in the comparisons; `tests.benchmarks.declared.resources`."""
