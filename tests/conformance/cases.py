"""What the tables of cases have in common: a row's name, and that no two rows have the same."""


def named(table):
    """Parameters of a test: one case each, named by its section and its name."""
    names = [f"{case.section} {case.name}" for case in table]
    assert len(set(names)) == len(names), f"two cases of one name: {sorted({n for n in names if names.count(n) > 1})}"
    return {"argvalues": table, "ids": names}
