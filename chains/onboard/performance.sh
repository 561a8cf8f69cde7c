#!/bin/sh
# Compares what the delivered device reports with what its persona expects. A device below expectations is no failed stage:
# it is delivered and works, and the report says where it falls short and why.
set -eu

# All text comes out of jq as JSON: what the device reported is never a shell's word.
jq '
  .telemetry as $seen | .telemetry.latest as $latest | .telemetry.latest.details as $details | .expected as $expected |
  def check($name; $expected; $seen; $passed; $reason): { name: $name, passed: $passed, expected: $expected, seen: $seen, reason: $reason };
  def tenth: . * 10 | round / 10;

  [ check("host name"; .hostname; $latest.hostname; $latest.hostname == .hostname;
      if $latest.hostname == .hostname then "the device runs what was made for it" else "another system than the one that was made answers" end),

    (select($expected.boot_s) | $seen.boot_s as $took |
      check("boot, seconds"; $expected.boot_s; ($took | if . then tenth else . end); ($took != null and $took <= $expected.boot_s);
        if $took == null then "it was not seen to leave for its own disk"
        elif $took <= $expected.boot_s then "from leaving the network to the first report"
        else "\($took - $expected.boot_s | tenth) s longer, from leaving the network to the first report" end)),

    (select($expected.idle_memory_mib) | $seen.metrics.memory as $memory |
      check("idle memory, MiB"; $expected.idle_memory_mib; ($memory.min | if . then round else . end);
        ($memory != null and $memory.min <= $expected.idle_memory_mib);
        if $memory == null then "no memory was reported"
        else "least of \($memory.n) reports; mean \($memory.mean | round), most \($memory.max | round)" end)),

    ($expected.services // [] | .[] | . as $unit | ($details.units[$unit] // null) as $state |
      check("unit \($unit)"; "active"; $state; ($state == "active");
        if $details == null then "the device has not told its units"
        elif $state == null then "the device does not look at it"
        elif $state == "active" then "it runs"
        else "it is \($state); see `journalctl -u \($unit)` on the device" end)),

    (($details.units // {} | to_entries | map(select(.value == "failed").key)) as $failed |
      check("units that failed"; 0; ($failed | length); ($details != null and ($failed | length) == 0);
        if $details == null then "the device has not told its units"
        elif $failed == [] then "none" else ($failed | join(", "))[:300] end)),

    (.versions as $versions | .applications[] | . as $name
      | ([$versions[] | select(.name == $name).version] | first // null) as $installed | ($details.packages[$name] // null) as $there |
      check("package \($name)"; ($installed // "installed"); $there; ($there != null and ($installed == null or $there == $installed));
        if $there == null then "it is not there, or was not told"
        elif $installed == null or $there == $installed then "as it was installed"
        else "another version than was installed" end)),

    ($details.firewall as $rules | ($rules // [] | join("\n")) as $text |
      check("packet filter"; "drops what is not allowed"; (if $rules then "\($rules | length) lines of rules" else null end);
        ($text | test("hook input[^;]*; policy drop"));
        if $rules == null then "the rules could not be read"
        elif ($text | test("hook input[^;]*; policy drop")) then "in force, as the kernel has it"
        else "what comes in is not dropped unless it is allowed" end)),

    (.allow | map(.port) | unique | .[] | . as $port | ($details.firewall // [] | map(select(test("dport") and test("(^|[^0-9])\($port)([^0-9]|$)")))) as $rules |
      check("open port \($port)"; "allowed"; ($rules | first // null | if . then .[:200] else . end); ($rules != []);
        if $rules == [] then "no rule of the packet filter in force allows it" else "the rule in force" end))
  ] as $checks
  | {
      verdict: (if ($checks | all(.passed)) then "as expected" else "below expectations" end),
      persona: .persona,
      passed: ($checks | map(select(.passed)) | length),
      failed: ($checks | map(select(.passed | not)) | length),
      checks: $checks,
      seen: { device: $seen.device, reports: $seen.reports, boot_s: $seen.boot_s, reporting_at: $seen.reporting_at,
              uptime_s: $latest.uptime_s, os: $latest.os, applications: $latest.applications, metrics: $seen.metrics }
    }' "$GREENROOM_INPUT" > "$GREENROOM_OUTPUT"

jq -r '.checks[] | "performance: \(if .passed then "ok" else "BELOW" end): \(.name): expected \(.expected), seen \(.seen): \(.reason)"' "$GREENROOM_OUTPUT"
jq -r '"performance: \(.verdict): \(.passed) of \(.checks | length) expectations met"' "$GREENROOM_OUTPUT"
