"""The exception for mistakes that the user can fix."""


class UserError(ValueError):
    """Invalid user input. `fairseq-nart` prints only the message, in one line.

    The message names the file, line or option, and what to do. Any other exception is a bug and
    keeps its traceback.
    """
