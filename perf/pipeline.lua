-- wrk script: sends the request DEPTH times in one write, DEPTH being the script's argument (16 without one).
local batch

function init(args)
    batch = string.rep(wrk.format(), tonumber(args[1]) or 16)
end

function request()
    return batch
end
