import { expect, it } from "vitest";
import { doorsOf } from "./doors";

it("shows the pages that there are, and follows no address that is none of the web's", () => {
  expect(doorsOf(undefined, null)).toEqual([]);
  const access = {
    codeServer: { url: "http://p8080-x.localhost:9000/?token=t", password: "one" },
    vnc: { url: "https://6080-x.example/", password: "two" },
    ttyd: null,
  };
  expect(doorsOf(access, { "5173": "https://5173-x.example", "80": "http://127.0.0.1:80" })).toEqual([
    { name: "Editor", url: "http://p8080-x.localhost:9000/?token=t", password: "one" },
    { name: "Desktop", url: "https://6080-x.example/vnc.html?autoconnect=true&resize=scale", password: "two" },
    { name: "Port 80", url: "http://127.0.0.1:80", password: undefined },
    { name: "Port 5173", url: "https://5173-x.example", password: undefined },
  ]);
  const bad = { codeServer: { url: "javascript:alert(1)", password: "p" }, vnc: { url: "http://evil.example", password: "p" }, ttyd: null };
  expect(doorsOf(bad, { "1": "data:text/html,x", "2": "http://localhost.evil.example" })).toEqual([]);
});

it("keeps the password out of the desktop's address, and its token in it", () => {
  const access = { codeServer: null, vnc: { url: "http://p6080-x.localhost:9000/?token=t", password: "secret" }, ttyd: null };
  const url = doorsOf(access, null)[0]?.url;
  expect(url).toBe("http://p6080-x.localhost:9000/vnc.html?token=t&autoconnect=true&resize=scale");
});
