"""The platform as processes on one machine: what ./dev run, the system tests and the benchmarks stand on."""
