"""
The limiter and the weather, on a clock of their own.
"""

from flows.narration.limiter import CALM_SECONDS, STORM, Limiter, Weather


class Clock:
    """
    Time that passes when told to.
    """

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """
        Seconds.
        """
        return self.now


def test_a_lower_limit_told_by_the_service_is_followed() -> None:
    """
    Twelve were asked for, the account may have five.
    """
    limiter = Limiter(12)

    limiter.told(5)

    assert 5 == limiter.capacity


def test_a_higher_limit_told_by_the_service_is_no_invitation() -> None:
    """
    Who asks for three shares the account with others.
    """
    limiter = Limiter(3)

    limiter.told(50)

    assert 3 == limiter.capacity


def test_a_refusal_halves_once_for_all_requests_in_flight() -> None:
    """
    Seven refusals of one moment are one lesson, and there is room for those that were not refused.
    """
    limiter = Limiter(12, clock=Clock())

    limiter.refused(11)
    assert 6 == limiter.capacity
    for in_flight in range(10, 4, -1):
        limiter.refused(in_flight)

    assert 5 == limiter.capacity


def test_a_retry_after_is_for_everybody() -> None:
    """
    While the service asked to wait, nothing is sent for any segment.
    """
    clock = Clock()
    limiter = Limiter(12, clock=clock)

    limiter.refused(5, retry_after=4.0)

    assert 4.0 == limiter.pause
    clock.now += 4
    assert 0.0 == limiter.pause


def test_it_settles_under_a_limit_it_ran_into_and_tries_again_after_a_calm() -> None:
    """
    A steady run sees no refusals; a limit that was raised is found in time.
    """
    clock = Clock()
    limiter = Limiter(12, clock=clock)
    seen = []
    for _ in range(2000):
        clock.now += 0.02
        if limiter.capacity > 5:
            limiter.refused(5)
        else:
            limiter.answered()
        seen.append(limiter.capacity)

    assert 5 == max(seen[-500:])
    clock.now += CALM_SECONDS + 1
    for _ in range(20):
        limiter.answered()
    assert limiter.capacity > 5


def test_capacity_never_falls_below_one() -> None:
    """
    A run that sends nothing never ends.
    """
    clock = Clock()
    limiter = Limiter(1, clock=clock)
    for _ in range(5):
        clock.now += 2
        limiter.refused(0)

    assert 1 == limiter.capacity


def test_failures_of_many_segments_make_darkness_and_one_success_ends_it() -> None:
    """
    A dead service is felt for by one request at a time.
    """
    clock = Clock()
    weather = Weather(patience=60, backoff=1, clock=clock)
    for number in range(STORM):
        weather.failed(f"segment-{number}", away=False)
    assert (True, 0) == (weather.dark, weather.slots(20))
    clock.now += weather.pause
    assert 1 == weather.slots(20)

    weather.clear()

    assert (False, 20) == (weather.dark, weather.slots(20))


def test_failures_of_one_segment_alone_make_no_darkness() -> None:
    """
    The segment may be the cause: it is given up, and the others go on.
    """
    weather = Weather(patience=60, backoff=1, clock=Clock())
    for _ in range(10 * STORM):
        weather.failed("poison", away=False)

    assert not weather.dark


def test_a_service_that_is_away_is_dark_for_whoever_asks() -> None:
    """
    No connection is nobody's fault, also when a single segment is left.
    """
    weather = Weather(patience=60, backoff=1, clock=Clock())
    for _ in range(STORM):
        weather.failed("last", away=True)

    assert weather.dark


def test_patience_counts_from_the_first_failure_after_a_success() -> None:
    """
    Minutes of silence end a run, a bad minute now and then does not.
    """
    clock = Clock()
    weather = Weather(patience=60, backoff=1, clock=clock)
    weather.failed("a", away=True)
    clock.now += 59
    assert not weather.hopeless
    weather.clear()
    weather.failed("a", away=True)
    clock.now += 59
    assert not weather.hopeless

    clock.now += 2

    assert weather.hopeless


def test_delays_double_and_stay_bounded() -> None:
    """
    Half of each delay is jitter, so that segments do not come back in step.
    """
    weather = Weather(patience=60, backoff=1, clock=Clock())

    delays = [weather.delay(attempt) for attempt in (1, 2, 3, 4, 5, 6, 50)]

    for delay, full in zip(delays, (1, 2, 4, 8, 16, 30, 30), strict=True):
        assert full / 2 <= delay <= full
