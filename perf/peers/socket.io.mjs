// A Socket.IO server, WebSocket alone: who connects with ?room=N joins that room, and every event `m` goes to all of
// it, its sender too. Prints `port N` when it serves.
import { createServer } from "node:http";
import { Server } from "socket.io";

const MESSAGE_BYTES_MAX = 1 << 20;

const http = createServer();
const server = new Server(http, {
  transports: ["websocket"], maxHttpBufferSize: MESSAGE_BYTES_MAX, perMessageDeflate: false, serveClient: false,
});
server.on("connection", (socket) => {
  const room = `room ${socket.handshake.query.room}`;
  socket.join(room);
  socket.on("m", (message) => server.to(room).emit("m", message));
});

http.listen(0, "127.0.0.1", 4096, () => console.log(`port ${http.address().port}`));
