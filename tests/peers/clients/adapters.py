# The official Python SDKs through the adapters: each script of the corpus, streaming and not, over two requests. Prints
# one JSON line per run. Usage: adapters.py BASE_URL MCP_URL CORPUS.json
import json
import sys

from anthropic import Anthropic
from openai import OpenAI

base, mcp, corpus = sys.argv[1], sys.argv[2], json.load(open(sys.argv[3]))
openai = OpenAI(base_url=f"{base}/openai/v1", api_key="sk-python", max_retries=0)
anthropic = Anthropic(base_url=f"{base}/anthropic", api_key="sk-python", max_retries=0)


def text_of(turns):
    return "script:" + json.dumps(turns)


def ask_openai(stream, **more):
    request = dict(model="gpt-5.6", tools=[{"type": "mcp", "server_label": "tracker", "server_url": mcp, "require_approval": more.pop("approval")}], **more)
    if not stream:
        return openai.responses.create(**request)
    with openai.responses.stream(**request) as events:
        for _ in events:
            pass
        return events.get_final_response()


def run_openai(case, stream):
    approval = case.get("approval", "never")
    first = ask_openai(stream, input=text_of(case["turns"]), approval=approval)
    kinds = [[item.type for item in first.output]]
    asked = [item.id for item in first.output if item.type == "mcp_approval_request"]
    if asked:
        answers = [{"type": "mcp_approval_response", "approval_request_id": id, "approve": True} for id in asked]
        first = ask_openai(stream, previous_response_id=first.id, input=answers, approval=approval)
        kinds.append([item.type for item in first.output])
    second = ask_openai(stream, previous_response_id=first.id, input=text_of([{"say": "again", "think": True}]), approval="never")
    assert second.output_text == "again", second.output
    return {"kinds": kinds, "usage": first.usage.total_tokens, "text": first.output_text}


def ask_anthropic(stream, messages):
    request = dict(
        model="claude-opus-5", max_tokens=1024, messages=messages, betas=["mcp-client-2025-11-20"],
        mcp_servers=[{"type": "url", "url": mcp, "name": "tracker"}], tools=[{"type": "mcp_toolset", "mcp_server_name": "tracker"}],
    )
    if not stream:
        return anthropic.beta.messages.create(**request)
    with anthropic.beta.messages.stream(**request) as events:
        for _ in events:
            pass
        return events.get_final_message()


def run_anthropic(case, stream):
    messages = [{"role": "user", "content": text_of(case["turns"])}]
    first = ask_anthropic(stream, messages)
    messages += [{"role": "assistant", "content": [block.model_dump(exclude_none=True) for block in first.content]}, {"role": "user", "content": text_of([{"say": "again", "think": True}])}]
    second = ask_anthropic(stream, messages)
    assert second.content[-1].text == "again", second.content
    return {"kinds": [[block.type for block in first.content]], "usage": first.usage.output_tokens, "text": first.content[-1].text}


for case in corpus:
    for stream in (False, True):
        for name, run in (("openai", run_openai), ("anthropic", run_anthropic)):
            if name in case.get("only", [name]):
                line = {"case": case["name"], "api": name, "stream": stream}
                try:
                    line |= run(case, stream)
                except Exception as error:
                    line["error"] = f"{type(error).__name__}: {error}"
                print(json.dumps(line), flush=True)
