"""Streaming calls as users hold them: `ItemStream`, `Upload` and `Exchange`."""

from __future__ import annotations

from typing import Generic, TypeVar

from .streaming import Streaming

#: The items that are sent, those that are taken, and the final value.
Sent = TypeVar("Sent")
Item = TypeVar("Item")
Result = TypeVar("Result")


class ItemStream(Streaming, Generic[Item, Result]):
    """The items of a streaming call: ``async for item in client.stream(...)``.

    Leaving the loop early drops it, which cancels the call; so does leaving an ``async with``.
    Iteration ends only after the response: a stream that was cut raises its error.
    """

    _receives = True

    def __aiter__(self) -> ItemStream[Item, Result]:
        return self

    async def __anext__(self) -> Item:
        item: Item = await self._next()
        return item

    def stop(self) -> None:
        """Takes no more items: the server is told, and iteration ends.  The call goes on."""
        self._stop()

    async def finish(self) -> Result:
        """Returns the final value, without the items that were not taken.

        The server is told to stop, unless all items were taken.  Raises the error of the call.
        """
        result: Result = await self._finish()
        return result


class Upload(Streaming, Generic[Sent, Result]):
    """The sending side of a streaming call: ``async with client.upload(...) as upload``.

    Without `finish` the call is cancelled, so that a loop that broke off is not taken for a
    complete upload.
    """

    _sends = True

    async def send(self, item: Sent) -> bool:
        """Sends an item, as soon as the server has granted credit for it.

        Returns False, and drops the item, if the server takes no more, because it has answered or
        has said so: `finish` returns the outcome.  If the task is cancelled, nothing was sent.

        Raises the error of the call; or `InvalidArgument` or `ResourceExhausted` if the item
        cannot be encoded, or is larger than the server accepts, and the call goes on.
        """
        return await self._send(item)

    async def finish(self) -> Result:
        """Says that no more items come, and returns the final value, or raises the error."""
        result: Result = await self._finish()
        return result


class Exchange(Streaming, Generic[Sent, Item, Result]):
    """A streaming call in both directions, whose items may be sent and taken by two tasks."""

    _receives = True
    _sends = True

    def __aiter__(self) -> Exchange[Sent, Item, Result]:
        return self

    async def __anext__(self) -> Item:
        item: Item = await self._next()
        return item

    async def send(self, item: Sent) -> bool:
        """Sends an item, as `Upload.send` does."""
        return await self._send(item)

    def end(self) -> None:
        """Says that no more items come; those of the server are still taken."""
        self._end()

    def stop(self) -> None:
        """Takes no more items: the server is told, and iteration ends.  The call goes on."""
        self._stop()

    async def finish(self) -> Result:
        """Ends both directions, and returns the final value, or raises the error."""
        result: Result = await self._finish()
        return result
