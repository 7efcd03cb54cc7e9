"""Container engines; the only code that talks to one."""
