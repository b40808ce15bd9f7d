"""What the lab raises on purpose."""


class LabError(Exception):
    """The lab cannot do what was asked: one line, exit code 4. Mend what the line names."""
