"""What ./dev bench measures: a package is an area, each module in it a part with `measure(directory, bin_dir)`, which returns figures.

A new part is a new file; nothing lists it. Peers in C are targets of tests/bench. `directory` is the part's own and empty.
"""
