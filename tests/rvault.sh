#!/bin/sh
# Signs in at RustyVault, a real server that speaks Vault's API, by token and by AppRole; and is refused there, for its KV is
# version 1. Builds rvault once into a cache (RVAULT_CACHE), some minutes.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
cache=${RVAULT_CACHE:-$HOME/.cache/mcp-gateway-tests/rvault}
rvault=$cache/bin/rvault
[ -x "$rvault" ] || nice -n 19 cargo install --quiet --locked --target-dir "$cache/target" --root "$cache" rusty_vault@0.2.1

cargo build --quiet --manifest-path "$here/Cargo.toml" --features vault
gateway=${CARGO_TARGET_DIR:-$here/target}/debug/mcp-oauth-gateway

dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT INT TERM
port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
at=127.0.0.1:$(port)
printf 'storage "file" {\n  path = "%s/data"\n}\nlistener "tcp" {\n  address = "%s"\n  tls_disable = "true"\n}\napi_addr = "http://%s"\n' "$dir" "$at" "$at" > "$dir/rvault.hcl"
"$rvault" server --config "$dir/rvault.hcl" > "$dir/log" 2>&1 &
server=$!

token=none
ask() { path=$1; shift; curl -sS -m 10 -H "X-Vault-Token: $token" "$@" "http://$at/v1/$path"; }
word() { sed -n "s/.*\"$1\":\[*\"\([^\"]*\)\".*/\1/p"; }
tries=0
until ask sys/health >/dev/null 2>&1; do tries=$((tries + 1)); [ $tries -lt 200 ] || { cat "$dir/log"; exit 1; }; sleep 0.05; done
ask sys/init -X PUT -d '{"secret_shares":1,"secret_threshold":1}' > "$dir/init"
root=$(word root_token < "$dir/init")

# What the gateway says at its start with these lines at [store].
says() {
  printf 'public_url = "http://127.0.0.1:1"\nlisten = ["127.0.0.1:%s"]\ndata_dir = "%s/gateway"\n[services.x]\nurl = "http://127.0.0.1:1/mcp"\n[store]\nkind = "vault"\nurl = "http://%s"\n%s\n' "$(port)" "$dir" "$at" "$2" > "$dir/config.toml"
  said=$(MCP_GATEWAY_KEY=MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= timeout 20 "$gateway" --config "$dir/config.toml" 2>&1) && { echo "it started"; exit 1; }
  case $said in *"$1"*) echo "ok: $1" ;; *) printf 'instead of "%s":\n%s\n' "$1" "$said"; exit 1 ;; esac
}

says 'is sealed' "token = \"$root\""
ask sys/unseal -X PUT -d "{\"key\":\"$(word keys < "$dir/init")\"}" > /dev/null
says 'the token is refused' 'token = "nonsense"'
says 'KV version 1' "token = \"$root\""

token=$root
ask sys/auth/approle -d '{"type":"approle"}'
ask sys/policy/gateway -d '{"policy":"path \"secret/*\" { capabilities = [\"create\", \"read\", \"update\", \"delete\", \"list\"] }\npath \"sys/mounts\" { capabilities = [\"read\"] }"}'
ask auth/approle/role/gateway -d '{"token_policies":"gateway,default","token_ttl":"1h"}'
role=$(ask auth/approle/role/gateway/role-id | word role_id)
secret=$(ask auth/approle/role/gateway/secret-id -X POST -d '{}' | word secret_id)
says 'the AppRole login is refused' "role_id = \"$role\"
secret_id = \"nonsense\""
says 'KV version 1' "role_id = \"$role\"
secret_id = \"$secret\""
