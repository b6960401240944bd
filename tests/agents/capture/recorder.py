"""A server that writes down what a client asks, and answers it in its wire with calls from a list.

`recorder.py FOLDER PORT CALLS.json`, with CALLS a list of [tool, arguments], or of texts for a
client that knows no tools. Each request becomes FOLDER/NNN.json. The answers are as plain as they
can be: they only lead the client on to its next request.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ANSWER = "I will do that."
MODEL = "recorded"


def is_call(request):
    """Whether a recorded request was answered as the main conversation is."""
    return request["called"] is not None


def results(body):
    """How many results of tools a request brings."""
    items = body.get("messages") or body.get("input") or []
    blocks = [block for item in items for block in [item, *blocks_of(item)]]
    return sum(
        block.get("role") == "tool" or str(block.get("type")).endswith(("tool_result", "_output"))
        for block in blocks
    )


def blocks_of(item):
    content = item.get("content")
    return (
        [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    )


class Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    lock, count = threading.Lock(), 0
    folder, calls = None, []

    def log_message(self, *_):
        pass

    def answer(self):
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.loads(raw) if raw else ""
        with self.lock:
            Recorder.count += 1
            number = Recorder.count
        path = self.path.split("?")[0]
        reply, called = self.reply(body, number) if body else (None, None)
        request = {"method": self.command, "path": self.path, "headers": list(self.headers.items())}
        request |= {"body": body, "called": called}
        (self.folder / f"{number:03}.json").write_text(json.dumps(request, indent=1))
        wires = {
            "completions": self.say_chat,
            "responses": self.say_responses,
            "messages": self.say_messages,
        }
        wire = wires.get(path.rsplit("/", 1)[-1])
        if self.command == "POST" and wire:
            wire(number, *reply)
        else:
            self.send_response(404)
            self.send_header("content-length", "0")
            self.end_headers()

    do_GET = do_POST = do_HEAD = answer

    def reply(self, body, number):
        """(text, call) and what is written down of it."""
        at = results(body)
        if self.calls and isinstance(self.calls[0], str):
            return (self.calls[0], None), ("", "", "")
        if not body.get("tools"):
            return ("A title", None), None
        if at >= len(self.calls):
            return ("All done.", None), ("", "", "")
        name, arguments = self.calls[at]
        id_ = f"call_{number}"
        return (ANSWER, (id_, name, arguments)), (id_, name, json.dumps(arguments))

    def events(self, events):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for name, data in events:
            text = data if isinstance(data, str) else json.dumps(data)
            self.wfile.write(
                f"event: {name}\ndata: {text}\n\n".encode()
                if name
                else f"data: {text}\n\n".encode()
            )
        self.close_connection = True

    def say_chat(self, number, text, call):
        chunk = {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": MODEL,
        }
        deltas = [{"role": "assistant", "content": ""}, {"content": text}]
        if call:
            function = {"name": call[1], "arguments": json.dumps(call[2])}
            entry = {"index": 0, "id": call[0], "type": "function", "function": function}
            deltas.append({"tool_calls": [entry]})
        choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        reason = "tool_calls" if call else "stop"
        choices.append({"index": 0, "delta": {}, "finish_reason": reason})
        usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
        chunks = [chunk | {"choices": [choice]} for choice in choices]
        self.events(
            (None, data) for data in [*chunks, chunk | {"choices": [], "usage": usage}, "[DONE]"]
        )

    def say_responses(self, number, text, call):
        content = [{"type": "output_text", "text": text, "annotations": []}]
        items = [{"type": "message", "id": f"msg_{number}", "role": "assistant"}]
        items[0] |= {"status": "completed", "content": content}
        if call:
            items.append({"type": "function_call", "id": f"fc_{number}", "call_id": call[0]})
            items[1] |= {"name": call[1], "arguments": json.dumps(call[2]), "status": "completed"}
        response = {"id": f"resp_{number}", "object": "response", "created_at": 1, "model": MODEL}
        usage = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
        usage |= {"input_tokens_details": {"cached_tokens": 0}}
        usage |= {"output_tokens_details": {"reasoning_tokens": 0}}
        begun = response | {"status": "in_progress", "output": []}
        ended = response | {"status": "completed", "output": items, "usage": usage}
        rows = [("response.created", {"response": begun})]
        for at, item in enumerate(items):
            rows.append(("response.output_item.added", {"output_index": at, "item": item}))
            rows.append(("response.output_item.done", {"output_index": at, "item": item}))
        rows.append(("response.completed", {"response": ended}))
        self.events(
            (name, {"type": name, "sequence_number": at, **data})
            for at, (name, data) in enumerate(rows)
        )

    def say_messages(self, number, text, call):
        usage = {"input_tokens": 100, "cache_read_input_tokens": 0, "output_tokens": 1}
        usage |= {"cache_creation_input_tokens": 0}
        message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": MODEL}
        message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        rows = [("message_start", {"message": message})]
        blocks = [({"type": "text", "text": ""}, {"type": "text_delta", "text": text})]
        if call:
            block = {"type": "tool_use", "id": call[0], "name": call[1], "input": {}}
            blocks.append(
                (block, {"type": "input_json_delta", "partial_json": json.dumps(call[2])})
            )
        for at, (block, delta) in enumerate(blocks):
            rows.append(("content_block_start", {"index": at, "content_block": block}))
            rows.append(("content_block_delta", {"index": at, "delta": delta}))
            rows.append(("content_block_stop", {"index": at}))
        ending = {"stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None}
        rows += [("message_delta", {"delta": ending, "usage": usage}), ("message_stop", {})]
        self.events((name, {"type": name, **data}) for name, data in rows)


if __name__ == "__main__":
    Recorder.folder = Path(sys.argv[1])
    Recorder.folder.mkdir(parents=True, exist_ok=True)
    Recorder.calls = json.loads(Path(sys.argv[3]).read_text())
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Recorder).serve_forever()
