"""What stands for a value that could not be read."""


class Undecodable:
    """What stands for a value that could not be read.

    `kind` is the type's name or the encoding's, `size` the stored bytes, `inside` what could be
    read of it. It answers as an interrupt, too, for a question may be what cannot be read.
    """

    id = "undecodable"
    response_schema = None

    def __init__(self, reason: str, kind: str, size: int, inside: object = None) -> None:
        self.reason, self.kind, self.size, self.inside = reason, kind, size, inside

    def __str__(self) -> str:
        return self.reason

    @property
    def value(self) -> "Undecodable":
        return self
