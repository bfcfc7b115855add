# shellcheck shell=bash
# Reads config/environments/ENV.toml into variables named cfg_KEY. A small and strict reader of the part of TOML that
# such a file needs: KEY = VALUE lines and comments. What it does not know it refuses, with file and line, because a
# misspelt key that is passed over is found only when the deployment goes to the wrong place. Nothing is evaluated.

# The variables are for run, which reads this file in; messages name the file that is being read.
# shellcheck disable=SC2034,SC2094

cfg_host='' cfg_user='' cfg_port='' cfg_identity_file='' cfg_known_hosts='' cfg_domain='' cfg_health='' cfg_address=''
cfg_expect_status='' cfg_env_file='' cfg_insecure='' cfg_ca_file=''
# The keys that were set, each between spaces: an empty string and a missing key are not the same for env_file.
cfg_present=' '

# environment_read FILE
environment_read() {
    local file=$1 number=0 line key value rest kind
    local key_line='^[[:space:]]*([A-Za-z0-9_-]+)[[:space:]]*=[[:space:]]*(.*)$'
    local basic='^"([^"\]*)"(.*)$' literal="^'([^']*)'(.*)\$" list='^\[([0-9,[:space:]]*)\](.*)$'
    local bare='^([A-Za-z0-9_]+)(.*)$' blank='^[[:space:]]*(#.*)?$'
    while IFS= read -r line || [ -n "$line" ]; do
        number=$((number + 1))
        line=${line%$'\r'}
        [[ $line =~ $blank ]] && continue
        if [[ $line =~ ^[[:space:]]*\[ ]]; then
            environment_refuse "$file" "$number" "a table such as [name] has no place here: all keys stand at the top"
        fi
        if ! [[ $line =~ $key_line ]]; then
            environment_refuse "$file" "$number" "this is not a line of the form  key = value"
        fi
        key=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]}
        if [[ $rest =~ $basic ]] || [[ $rest =~ $literal ]]; then
            kind=string
        elif [[ $rest =~ $list ]]; then
            kind=list
        elif [[ $rest =~ $bare ]]; then
            kind=bare
        else
            environment_refuse "$file" "$number" "the value of $key is not a string in quotes (without a backslash), a number, true, false, or a list of numbers"
        fi
        value=${BASH_REMATCH[1]} rest=${BASH_REMATCH[2]}
        [[ $rest =~ $blank ]] || environment_refuse "$file" "$number" "something follows the value of $key"
        environment_set "$file" "$number" "$key" "$kind" "$value"
    done <"$file"
}

# environment_set FILE LINE KEY KIND VALUE: checks the value, and keeps it.
environment_set() {
    local file=$1 number=$2 key=$3 kind=$4 value=$5 item
    case $cfg_present in
    *" $key "*) environment_refuse "$file" "$number" "$key is set twice" ;;
    esac
    case $key in
    host | user | identity_file | known_hosts | domain | health | address | env_file | ca_file)
        [ "$kind" = string ] || environment_refuse "$file" "$number" "$key must be a string in quotes"
        ;;
    port)
        if ! [[ $kind = bare && $value =~ ^[1-9][0-9]{0,4}$ && $value -le 65535 ]]; then
            environment_refuse "$file" "$number" "port must be a number from 1 to 65535, without quotes"
        fi
        ;;
    insecure)
        [[ $kind = bare && ($value = true || $value = false) ]] ||
            environment_refuse "$file" "$number" "insecure must be true or false, without quotes"
        ;;
    expect_status)
        value=${value//,/ }
        for item in $value; do
            [[ $item =~ ^[1-5][0-9][0-9]$ ]] ||
                environment_refuse "$file" "$number" "expect_status must be a status such as 200, or a list such as [200, 401]"
        done
        # Parted by single spaces, so that the gate can look a status up.
        read -ra item <<<"$value"
        value=${item[*]}
        [[ $kind != string && -n $value ]] ||
            environment_refuse "$file" "$number" "expect_status must be a status such as 200, or a list such as [200, 401]"
        ;;
    *)
        environment_refuse "$file" "$number" "unknown key $key; there are: host, user, port, identity_file, known_hosts, domain, health, address, expect_status, env_file, insecure, ca_file"
        ;;
    esac
    case $key in
    # These end up in the argument list of ssh, where a leading dash would be an option.
    host) [[ $value =~ ^[A-Za-z0-9_.:%@[][]A-Za-z0-9_.:%@[-]*$ ]] || environment_refuse "$file" "$number" "host is not the name of a host, an address, or a Host of the ssh configuration" ;;
    user) [[ $value =~ ^[A-Za-z0-9_][A-Za-z0-9_.-]*$ ]] || environment_refuse "$file" "$number" "user is not a user name" ;;
    domain) [[ $value =~ ^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || environment_refuse "$file" "$number" "domain is not a host name such as www.example.org" ;;
    address) [[ $value = dns || $value =~ ^[0-9A-Fa-f.:]+$ ]] || environment_refuse "$file" "$number" "address must be an IP address, or \"dns\"" ;;
    health) [[ $value =~ ^https?://[^/[:space:]]+(/[^[:space:]]*)?$ ]] || environment_refuse "$file" "$number" "health must be an address such as https://www.example.org/healthy" ;;
    esac
    printf -v "cfg_$key" '%s' "$value"
    cfg_present+="$key "
}

# environment_refuse FILE LINE MESSAGE
environment_refuse() {
    printf '%s:%s: %s\n' "$1" "$2" "$3" >&2
    exit 78
}
