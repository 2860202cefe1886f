"""One module an ecosystem: (path, data, budget) -> packages. Pure; loaded when it is needed (see packages.read).

Each passes over entries that can't be read, and raises Broken for a file of which nothing can. None may run away,
whatever it is given: what it reads of archives it takes from the budget.
"""
