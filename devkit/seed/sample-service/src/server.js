import { createServer } from "node:http";
import { greet } from "./greeting.js";

const port = Number(process.env.PORT ?? 3000);

const server = createServer((request, response) => {
  const url = new URL(request.url ?? "/", "http://localhost");
  if (url.pathname !== "/greet") {
    response.writeHead(404, { "content-type": "text/plain" }).end("Not found\n");
    return;
  }
  const name = url.searchParams.get("name") ?? undefined;
  response.writeHead(200, { "content-type": "text/plain; charset=utf-8" }).end(`${greet(name)}\n`);
});

server.listen(port, "127.0.0.1", () => {
  console.log(`Greeting on http://127.0.0.1:${port}/greet`);
});
