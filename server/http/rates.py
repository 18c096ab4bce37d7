"""The requests and tokens of each key in a minute."""

import math
import time
from dataclasses import dataclass

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import FixedWindowRateLimiter, MovingWindowRateLimiter

from server.errors import ApiError, RateLimited
from server.http.keys import Key
from server.http.stats import RequestStats


class NotAdmitted(Exception):
    """A request that is not let in, and what its client is told."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


@dataclass(frozen=True)
class Budget:
    """What is left of a limit: how many, and the seconds until it is whole again."""

    kind: str
    most: int
    left: int
    seconds: float

    def headers(self) -> dict[str, str]:
        """Return it as OpenAI's headers."""
        return {
            f"x-ratelimit-limit-{self.kind}": str(self.most),
            f"x-ratelimit-remaining-{self.kind}": str(self.left),
            f"x-ratelimit-reset-{self.kind}": duration(self.seconds),
        }


class Rates:
    """The requests and tokens of each key in the last minute, in this process's memory."""

    def __init__(self) -> None:
        storage = MemoryStorage()
        self._requests, self._tokens = MovingWindowRateLimiter(storage), FixedWindowRateLimiter(storage)

    async def admit(self, key: Key) -> dict[str, str]:
        """Count a request, and return the headers that say what is left.

        Raises:
            NotAdmitted: nothing is left.
        """
        budgets = []
        if key.tokens_per_minute:
            limit = RateLimitItemPerMinute(key.tokens_per_minute)
            budgets.append(await self._budget(self._tokens, limit, "tokens", key))
        has_tokens = all(budget.left for budget in budgets)
        if key.requests_per_minute:
            limit = RateLimitItemPerMinute(key.requests_per_minute)
            is_counted = has_tokens and await self._requests.hit(limit, "requests", key.principal)
            budgets.append(await self._budget(self._requests, limit, "requests", key))
            if has_tokens and not is_counted:
                raise NotAdmitted(_used_up(key, budgets[-1], budgets))
        if not has_tokens:
            raise NotAdmitted(_used_up(key, budgets[0], budgets))
        return {name: value for budget in budgets for name, value in budget.headers().items()}

    async def count_tokens(self, key: Key, stats: RequestStats) -> None:
        """Count the tokens that a request has used; the last request of a minute may use more than is left."""
        used = stats.input_tokens + stats.output_tokens
        if key.tokens_per_minute and used:
            await self._tokens.hit(RateLimitItemPerMinute(key.tokens_per_minute), "tokens", key.principal, cost=used)

    async def _budget(
        self, limiter: MovingWindowRateLimiter | FixedWindowRateLimiter, limit: RateLimitItem, kind: str, key: Key
    ) -> Budget:
        reset_at, left = await limiter.get_window_stats(limit, kind, key.principal)
        return Budget(kind, limit.amount, max(left, 0), max(reset_at - time.time(), 0))


def _used_up(key: Key, budget: Budget, budgets: list[Budget]) -> RateLimited:
    wait = max(math.ceil(budget.seconds), 1)
    message = (
        f"Rate limit reached for {key.name} on {budget.kind} per min: Limit {budget.most}. Please try again in {wait}s."
    )
    error = RateLimited(message, budget.kind, retry_after=wait)
    error.headers |= {name: value for one in budgets for name, value in one.headers().items()}
    return error


def duration(seconds: float) -> str:
    """Return seconds as OpenAI's headers do, in Go's form: `1s`, `6m0s`."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
