<?php
/**
 * Real GPS tracks into a topic and back.
 *
 *     php -d ffi.enable=1 examples/php/gpsraw.php 127.0.0.1:9092 examples/data/gpsraw.jsonl /usr/local
 *
 * The last argument is where Ottla is installed (`cmake --install ... --prefix`); without it the dynamic linker is asked.
 */
declare(strict_types=1);

require __DIR__ . '/Ottla.php';

use Ottla\{Admin, Consumer, KafkaError, Library, Producer};

[, $servers, $file] = $argv;
$prefix = $argv[3] ?? null;
Library::load($prefix ? "$prefix/lib/libottla.so.0" : 'libottla.so.0', ($prefix ?? '/usr/local') . '/include/ottla.h');

try {
    new Producer(['bootstrap.servers' => $servers, 'linger.mz' => 5]);
} catch (KafkaError $error) {
    echo "a mistake:  {$error->kind}: {$error->getMessage()}\n";
}

(new Admin(['bootstrap.servers' => $servers]))->createTopic('gpsraw-php', 2);

$producer = new Producer(['bootstrap.servers' => $servers, 'linger.ms' => 5]);
$lines = file($file, FILE_IGNORE_NEW_LINES);
$offsets = [];
foreach ($lines as $number => $line) {
    $producer->send('gpsraw-php', $line, json_decode($line)->track, $number);
}
$producer->flush();
while ($reports = $producer->poll()) {
    foreach ($reports as [$number, $offset, $error]) {
        $offsets[$number] = $error ?? $offset;
    }
}
$counts = $producer->close();
echo "produced    {$counts['delivered']} points, {$counts['failed']} failed, " . count($offsets) . " reports\n";

$consumer = new Consumer(['bootstrap.servers' => $servers, 'auto.offset.reset' => 'earliest']);
$consumer->assign('gpsraw-php', [0, 1]);
$tracks = [];
$got = 0;
while ($got < count($lines)) {
    foreach ($consumer->poll(30_000) ?: throw new RuntimeException('nothing came for 30 seconds') as $record) {
        $tracks[$record['key']][] = $record['value'];
        $got++;
    }
}
echo "consumed    $got points, from the beginning\n\n";
$all = $got === count($lines) && count($offsets) === $got;
foreach ($tracks as $track => $points) {
    $sent = array_values(array_filter($lines, fn ($line) => json_decode($line)->track === $track));
    printf("%-20s %8d %11s\n", $track, count($points), $points === $sent ? 'as sent' : 'DIFFERS');
    $all = $all && $points === $sent;
}
exit($all ? 0 : 1);
