-- wrk's side: one kind of request, with a random number in place of {id}. Everything comes from the environment.
local method, path, token = os.getenv("BENCH_METHOD"), os.getenv("BENCH_PATH"), os.getenv("BENCH_TOKEN")
local format, file = os.getenv("BENCH_ID") or "%d", os.getenv("BENCH_BODY")
local body
if file and file ~= "" then
  local handle = assert(io.open(file, "rb"))
  body = handle:read("*a")
  handle:close()
end
local headers = { Authorization = "Bearer " .. token, Accept = "application/json" }
if body then headers["Content-Type"] = "application/json" end

local thread = 0
function setup(it)
  thread = thread + 1
  it:set("seed", thread)
end
function init()
  math.randomseed(seed)
end
function request()
  return wrk.format(method, (path:gsub("{id}", function() return string.format(format, math.random(1000)) end)), headers, body)
end
