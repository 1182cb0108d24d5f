"""What a run says of itself: rate, time left, and what it came to."""

from rich.console import Console

from app.commands.batch_progress import BatchProgress


class Run:
    """A run whose time and tokens a test sets."""

    def __init__(self, *, num_lines, num_done=0):
        self.now, self.tokens = 0.0, 0
        self.progress = BatchProgress(
            Console(file=None, quiet=True),
            num_lines=num_lines,
            num_done=num_done,
            num_tokens=lambda: self.tokens,
            clock=lambda: self.now,
        )

    def at(self, now, tokens):
        self.now, self.tokens = now, tokens
        self.progress.tick()


def test_time_left_counts_lines_that_are_half_done():
    run = Run(num_lines=14, num_done=4)
    run.at(10.0, 500)  # all ten lines are half done, and one of them whole
    run.progress.line_done(num_tokens=100, is_error=False)
    # Nine lines of 100 tokens less the 400 that they have already, at 50 a second.
    assert run.progress.plain_line() == "5 of 14 lines, 50 tokens/s, 0:00:10 left"


def test_nobody_knows_the_end_of_a_pipe():
    run = Run(num_lines=None)
    run.at(2.0, 10)
    run.progress.line_done(num_tokens=10, is_error=True)
    assert run.progress.plain_line() == "1 lines, 5 tokens/s"
    assert run.progress.summary == "1 line in 2.0 s, 1 with errors; 10 tokens, 5.0 tokens/s"
    assert run.progress.has_errors


def test_a_rate_forgets_what_was_long_ago():
    run = Run(num_lines=9)
    for second in range(40):
        run.at(float(second), 0 if second < 20 else (second - 19) * 30)
    assert "30 tokens/s" in run.progress.plain_line()
