"""Time limits of remote services, and their errors."""

import sys

from prepkd.errors import one_line

PATIENCE = 20.0  # seconds that a server may take to connect, and may fall behind RATE
RATE = 2**14  # bytes per second; a request that stays slower times out
DELAYS = (0.5, 2.0)  # seconds before the second and the third attempt
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses of temporary failures


def is_remote(place: object) -> bool:
    """Tell a URL such as `s3://bucket/images` from a local path."""
    return "://" in str(place)


def failures() -> tuple[type[Exception], ...]:
    """The exceptions of an unusable path or URL, including those of the services' libraries that are loaded."""
    own = {"botocore.exceptions": "BotoCoreError", "aiohttp": "ClientError"}
    loaded = [getattr(sys.modules[module], name) for module, name in own.items() if module in sys.modules]
    return OSError, *loaded


def words(error: Exception) -> str:
    """Describe a failure in one line: the service's own message, if it has one."""
    status = getattr(error, "status", None)
    if type(error).__name__ == "TooManyRedirects":  # aiohttp's; its status is 0
        return "the server redirects in a circle"
    if isinstance(status, int):
        return f"the server answers {status} {' '.join(str(getattr(error, 'message', '')).split())}".rstrip()
    if isinstance(error, TimeoutError):
        return "the server is silent or too slow"
    return one_line(error)


def may_pass(error: Exception) -> bool:
    """Whether another attempt may succeed; s3fs makes its own attempts, so the exceptions of botocore are final."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status in PASSING
    web = sys.modules.get("aiohttp")
    lost = () if web is None else (web.ClientConnectionError, web.ClientPayloadError)
    return isinstance(error, (TimeoutError, ConnectionError, *lost))
