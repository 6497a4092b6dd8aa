"""Which open models exist, how they compare and descend, and what fits this machine.

    schema      what an entry of the catalogue says, and with what source
    reading     one file, every refusal by file, entry and field
    catalogue   the entries that ship and the user's own, checked against one another, found by name
    filters     which entries somebody means
    comparing   fact by fact with the sources, and side by side
    choosing    which size for a task, by a score whose every part is told; running says what fits
    entries/    the facts: a TOML file for each family or publisher
    fit/        how much memory and time a task needs, from descriptions alone

Released sizes are data here, never code elsewhere.
"""
