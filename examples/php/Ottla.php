<?php
/**
 * Ottla for PHP, through PHP's own foreign function interface: no extension to compile.
 *
 * What is here is what the example needs: sending with keys, delivery reports, reading partitions. It is a pattern to grow
 * from, not a library. Needs PHP 7.4 or newer with FFI (`-d ffi.enable=1` where php.ini switches it off) and libottla.so.
 */
declare(strict_types=1);

namespace Ottla;

use FFI;

/** An error, with what `ottla_error` knows. */
final class KafkaError extends \RuntimeException
{
    public function __construct(string $text, int $code, public readonly string $kind = '',
        public readonly bool $retriable = false, public readonly int $persisted = 0)
    {
        parent::__construct($text, $code);
    }
}

/** The library, loaded once. */
final class Library
{
    private static ?FFI $ffi = null;

    /** `$library`: what the dynamic linker finds, or a path. `$header`: ottla.h as it was installed. */
    public static function load(string $library, string $header): void
    {
        // PHP knows no preprocessor: without its lines, and without the braces for C++, the header is plain declarations.
        $text = preg_replace('/^#ifdef __cplusplus$.*?^#endif.*?$/ms', '', file_get_contents($header));
        // PHP's integers and C's pointers do not mix; the library only hands this one back.
        $text = str_replace('void *opaque', 'intptr_t opaque', $text);
        $lines = preg_grep('/^\s*#/', explode("\n", $text), PREG_GREP_INVERT);
        self::$ffi = FFI::cdef(implode("\n", $lines), $library);
    }

    public static function ffi(): FFI
    {
        return self::$ffi ?? throw new \LogicException('Library::load() comes first');
    }

    /** Calls a function whose last argument is the error. */
    public static function call(string $function, mixed ...$arguments): void
    {
        $ffi = self::ffi();
        $error = $ffi->new('ottla_error*');
        $code = $ffi->$function(...[...$arguments, FFI::addr($error)]);
        if ($code === 0) {
            return;
        }
        $thrown = new KafkaError(self::string($ffi->ottla_error_text($error)), $code,
            self::string($ffi->ottla_kind_name($ffi->ottla_error_kind($error))),
            $ffi->ottla_error_retriable($error), $ffi->ottla_error_persisted($error));
        $ffi->ottla_error_free($error);
        throw $thrown;
    }

    /** A string of C's: PHP turns `const char *` into its own already. */
    public static function string(mixed $text): string
    {
        return is_string($text) ? $text : ($text === null || FFI::isNull($text) ? '' : FFI::string($text));
    }

    /** A configuration: Kafka's own keys. */
    public static function config(array $pairs): FFI\CData
    {
        $config = self::ffi()->ottla_config_new();
        foreach ($pairs as $key => $value) {
            self::call('ottla_config_set', $config, $key, is_bool($value) ? ($value ? 'true' : 'false') : (string) $value);
        }
        return $config;
    }

    /** Points a view of C at a PHP string, which must live for as long as the view. The copy is given back for that. */
    public static function view(FFI\CData $view, ?string $bytes): ?FFI\CData
    {
        if ($bytes === null) {
            return null;
        }
        $copy = self::ffi()->new('char[' . max(strlen($bytes), 1) . ']');
        FFI::memcpy($copy, $bytes, strlen($bytes));
        $view->data = self::ffi()->cast('void*', FFI::addr($copy));
        $view->len = strlen($bytes);
        return $copy;
    }

    public static function bytes(FFI\CData $view): ?string
    {
        return FFI::isNull($view->data) ? null : ($view->len === 0 ? '' : FFI::string(self::ffi()->cast('char*', $view->data), $view->len));
    }
}

final class Producer
{
    private FFI\CData $handle;

    public function __construct(array $config)
    {
        $ffi = Library::ffi();
        $pairs = Library::config($config);
        $this->handle = $ffi->new('ottla_producer*');
        Library::call('ottla_producer_new', $pairs, FFI::addr($this->handle));
        $ffi->ottla_config_free($pairs);
    }

    /** Sends a record; waits for room if it must. `$number` comes back in the report. */
    public function send(string $topic, ?string $value, ?string $key = null, int $number = 0): void
    {
        $ffi = Library::ffi();
        $record = $ffi->new('ottla_record');
        $record->struct_size = FFI::sizeof($record);
        $record->partition = -1;
        $record->timestamp_ms = -1;
        $record->opaque = $number;
        $name = $ffi->new('char[' . (strlen($topic) + 1) . ']');
        FFI::memcpy($name, $topic . "\0", strlen($topic) + 1);
        $record->topic = $ffi->cast('char*', FFI::addr($name));
        $kept = [Library::view($record->key, $key), Library::view($record->value, $value)];
        while (true) {
            try {
                Library::call('ottla_producer_send', $this->handle, FFI::addr($record));
                return;
            } catch (KafkaError $error) {
                if ($error->kind !== 'queue_full') {
                    throw $error;
                }
                Library::call('ottla_producer_ready', $this->handle, 60_000);
            }
        }
    }

    /** Delivery reports: [number, offset or null, error text or null] each. */
    public function poll(int $timeoutMs = 0): array
    {
        $ffi = Library::ffi();
        $reports = $ffi->new('ottla_report[256]');
        $reports[0]->struct_size = FFI::sizeof($reports[0]);
        $count = $ffi->new('size_t');
        Library::call('ottla_producer_poll', $this->handle, FFI::addr($reports[0]), 256, $timeoutMs, FFI::addr($count));
        $told = [];
        for ($i = 0; $i < $count->cdata; $i++) {
            $report = $reports[$i];
            $error = $report->code === 0 ? null : Library::string($ffi->ottla_error_text($report->error));
            $told[] = [$report->opaque, $report->offset < 0 ? null : $report->offset, $error];
        }
        return $told;
    }

    /** Waits until everything is delivered or has failed. Their reports are there then. */
    public function flush(int $timeoutMs = 30_000): void
    {
        Library::call('ottla_producer_flush', $this->handle, $timeoutMs, null);
    }

    /** Takes no more, delivers what is queued, and counts everything since the beginning. */
    public function close(int $timeoutMs = 30_000): array
    {
        $counts = Library::ffi()->new('ottla_counts');
        $counts->struct_size = FFI::sizeof($counts);
        Library::call('ottla_producer_close', $this->handle, $timeoutMs, FFI::addr($counts));
        return ['delivered' => $counts->delivered, 'failed' => $counts->failed, 'unknown' => $counts->unknown];
    }

    public function __destruct()
    {
        // A handle that is no good is an error here, not a crash; after the script nobody wants to hear of it.
        Library::ffi()->ottla_producer_free($this->handle);
    }
}

final class Consumer
{
    private FFI\CData $handle;

    public function __construct(array $config)
    {
        $ffi = Library::ffi();
        $pairs = Library::config($config);
        $this->handle = $ffi->new('ottla_consumer*');
        Library::call('ottla_consumer_new', $pairs, FFI::addr($this->handle));
        $ffi->ottla_config_free($pairs);
    }

    /** Reads these partitions of a topic. */
    public function assign(string $topic, array $partitions): void
    {
        $ffi = Library::ffi();
        $name = $ffi->new('char[' . (strlen($topic) + 1) . ']');
        FFI::memcpy($name, $topic . "\0", strlen($topic) + 1);
        $array = $ffi->new('ottla_topic_partition[' . count($partitions) . ']');
        foreach (array_values($partitions) as $i => $partition) {
            $array[$i]->topic = $ffi->cast('char*', FFI::addr($name));
            $array[$i]->partition = $partition;
        }
        Library::call('ottla_consumer_assign', $this->handle, FFI::addr($array[0]), count($partitions));
    }

    /** Records as arrays with partition, offset, timestamp, key and value; none after the time. */
    public function poll(int $timeoutMs = 1000): array
    {
        $ffi = Library::ffi();
        $batch = $ffi->new('ottla_batch*');
        Library::call('ottla_consumer_poll', $this->handle, $timeoutMs, FFI::addr($batch));
        if (FFI::isNull($batch)) {
            return [];
        }
        $message = $ffi->new('ottla_message');
        $message->struct_size = FFI::sizeof($message);
        $records = [];
        for ($i = 0, $count = $ffi->ottla_batch_len($batch); $i < $count; $i++) {
            Library::call('ottla_batch_get', $batch, $i, FFI::addr($message));
            $records[] = [
                'partition' => $message->partition, 'offset' => $message->offset, 'timestamp' => $message->timestamp_ms,
                'key' => Library::bytes($message->key), 'value' => Library::bytes($message->value),
            ];
        }
        $ffi->ottla_batch_free($batch);
        return $records;
    }

    public function __destruct()
    {
        Library::ffi()->ottla_consumer_free($this->handle);
    }
}

/** Topics. */
final class Admin
{
    private FFI\CData $handle;

    public function __construct(array $config)
    {
        $ffi = Library::ffi();
        $pairs = Library::config($config);
        $this->handle = $ffi->new('ottla_admin*');
        Library::call('ottla_admin_new', $pairs, FFI::addr($this->handle));
        $ffi->ottla_config_free($pairs);
    }

    public function createTopic(string $topic, int $partitions = -1): void
    {
        Library::call('ottla_admin_create_topic', $this->handle, $topic, $partitions, -1, null, 30_000);
    }

    public function __destruct()
    {
        Library::ffi()->ottla_admin_free($this->handle);
    }
}
