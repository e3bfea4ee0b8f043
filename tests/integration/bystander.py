"""Somebody who chats while others misbehave, and must not notice."""

from client import new_tenant
from shapes import assert_gapless


class Bystander:
    """A room of its own with a listener; `unharmed` proves that nothing of it was lost or delayed for ever."""

    @classmethod
    async def arrive(cls, gateway):
        self = cls()
        self.sender, self.reader = (await new_tenant(gateway)).users("sender", "reader")
        self.room_id = await self.sender.new_room("group", self.reader)
        self.socket = await self.reader.connect()
        self.sent = 0
        await self.say()
        return self

    async def say(self):
        await self.sender.send(self.room_id, f"{self.sent}")
        self.sent += 1

    async def unharmed(self):
        await self.say()
        heard = await self.socket.collect(self.room_id, self.sent)
        assert_gapless(heard, 1, self.sent)
        assert [event["content"] for event in heard] == [f"{number}" for number in range(self.sent)]
