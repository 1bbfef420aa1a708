"""The one exception for input that riron cannot use: a sentence that says what is wrong and what to do."""


class InputError(ValueError):
    """Input that riron cannot use.

    The command line prints it as `error: ...` and exits with status 2; anything else that escapes is a bug of ours.

    Args:
      what: what is wrong with the value given, and where.
      why: why that cannot be used, if it is not obvious.
      do: what to do about it.
    """

    def __init__(self, what: str, *, why: str = "", do: str = ""):
        self.what, self.why, self.do = what, why, do
        super().__init__("; ".join(part for part in (what, why, do) if part))
