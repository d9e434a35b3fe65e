"""URLs of objects that users and operators name: one spelling each, compared by whole parts."""

import re

SCHEME = "s3://"
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
# Clients take some of these for patterns or versions, and others may take a percent sign for an escape.
REFUSED = frozenset("\\?#%*[]")
LONGEST_KEY = 1024


def normalized(url: str) -> str:
    """The URL of a bucket, a prefix or an object, without a slash at its end.

    Raises:
        ValueError: it is not ``s3://bucket/part/part``; the message is the reason.
    """
    if not url.startswith(SCHEME):
        raise ValueError(f"{url} does not begin with {SCHEME}")
    bucket, *parts = url.removeprefix(SCHEME).removesuffix("/").split("/")
    if not BUCKET.fullmatch(bucket):
        raise ValueError(f"{url} does not name a bucket: write s3://bucket/prefix")
    if any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{url} has an empty part, `.` or `..`")
    key = "/".join(parts)
    if not key.isprintable() or REFUSED & set(key) or len(key.encode()) > LONGEST_KEY:
        raise ValueError(
            f"{url} has more than {LONGEST_KEY} bytes after its bucket, or one of {' '.join(sorted(REFUSED))}: "
            "write the name as it is, without escapes"
        )
    return SCHEME + "/".join((bucket, *parts))


def is_below(url: str, root: str) -> bool:
    """Whether a normalized URL is ``root`` or lies below it."""
    return f"{url}/".startswith(f"{root.rstrip('/')}/")
