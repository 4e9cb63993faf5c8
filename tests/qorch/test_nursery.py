import pytest
import trio

from qorch.nursery import open_nursery


async def fail(error):
    """A task that fails."""
    raise error


async def test_an_error_of_the_block_comes_out_as_itself():
    """No ExceptionGroup around it, and none as its context."""

    async def work():
        async with open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine") as caught:
        await work()
    assert not isinstance(caught.value.__context__, BaseExceptionGroup)


async def test_an_error_of_a_task_comes_out_as_itself():
    """Through nurseries within it, too."""

    async def nest():
        async with trio.open_nursery() as inner:
            inner.start_soon(fail, ValueError("deep"))

    async def work():
        async with open_nursery() as outer:
            outer.start_soon(nest)
            await trio.sleep_forever()

    with pytest.raises(ValueError, match="deep"):
        await work()


async def test_tasks_are_waited_for():
    """Like any nursery's."""
    done = trio.Event()
    async with open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.checkpoint)
        done.set()
    assert done.is_set()


async def test_cancellation_goes_through():
    """A caller that is cancelled is cancelled, not failed."""
    with trio.move_on_after(0) as scope:
        async with open_nursery():
            await trio.sleep_forever()
    assert scope.cancelled_caught
