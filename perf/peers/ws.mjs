// A server on the npm package `ws`: whoever connects to /room/N gets every message that is sent there, its sender too.
// Prints `port N` when it serves; GET /health answers as a gateway does.
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const MESSAGE_BYTES_MAX = 1 << 20;
const HEALTH_BODY = process.env.PEER_HEALTH_BODY ?? '{"status":"ok"}'; // as long as a gateway's

const rooms = new Map();

const http = createServer((request, response) => {
  response.writeHead(request.url === "/health" ? 200 : 404, {
    "Content-Type": "application/json", "Content-Length": HEALTH_BODY.length,
  });
  response.end(HEALTH_BODY);
});
http.keepAliveTimeout = 0;

const server = new WebSocketServer({ server: http, maxPayload: MESSAGE_BYTES_MAX, perMessageDeflate: false });
server.on("connection", (socket, request) => {
  let room = rooms.get(request.url);
  if (!room) rooms.set(request.url, (room = new Set()));
  room.add(socket);
  socket.on("message", (message) => {
    for (const member of room) member.send(message, { binary: false });
  });
  socket.on("close", () => room.delete(socket));
  socket.on("error", () => socket.terminate());
});

http.listen(0, "127.0.0.1", 4096, () => console.log(`port ${http.address().port}`));
