// franz-go for the tests: the requests that tests/src/peer/program.rs describes, one JSON object a line.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const patience = 30 * time.Second

type record struct {
	Offset    int64        `json:"offset"`
	Timestamp *int64       `json:"timestamp"`
	Key       *string      `json:"key"`
	Value     *string      `json:"value"`
	Headers   [][2]*string `json:"headers"`
}

type receipt struct {
	Partition int32 `json:"partition"`
	Offset    int64 `json:"offset"`
	Timestamp int64 `json:"timestamp"`
}

type request struct {
	Do, Bootstrap, Topic, Codec, Group string
	Idempotent                         bool
	Records                            []record
	Partition                          int32
	Count                              int
}

// unhex keeps null and empty apart: a nil slice is a null on the wire.
func unhex(text *string) []byte {
	if text == nil {
		return nil
	}
	data, err := hex.DecodeString(*text)
	if err != nil {
		panic(err)
	}
	return data
}

func toHex(data []byte) *string {
	if data == nil {
		return nil
	}
	text := hex.EncodeToString(data)
	return &text
}

func codec(name string) (kgo.CompressionCodec, error) {
	switch name {
	case "none":
		return kgo.NoCompression(), nil
	case "gzip":
		return kgo.GzipCompression(), nil
	case "snappy":
		return kgo.SnappyCompression(), nil
	case "lz4":
		return kgo.Lz4Compression(), nil
	case "zstd":
		return kgo.ZstdCompression(), nil
	}
	return kgo.CompressionCodec{}, fmt.Errorf("no codec %s", name)
}

func produce(ctx context.Context, r request) (any, error) {
	compression, err := codec(r.Codec)
	if err != nil {
		return nil, err
	}
	options := []kgo.Opt{
		kgo.SeedBrokers(r.Bootstrap),
		kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.ProducerBatchCompression(compression),
		kgo.ProducerLinger(20 * time.Millisecond),
	}
	if !r.Idempotent {
		options = append(options, kgo.DisableIdempotentWrite())
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	records := make([]*kgo.Record, len(r.Records))
	for i, given := range r.Records {
		records[i] = &kgo.Record{Topic: r.Topic, Key: unhex(given.Key), Value: unhex(given.Value)}
		for _, header := range given.Headers {
			records[i].Headers = append(records[i].Headers, kgo.RecordHeader{Key: *header[0], Value: unhex(header[1])})
		}
		if given.Timestamp != nil {
			records[i].Timestamp = time.UnixMilli(*given.Timestamp)
		}
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		return nil, err
	}
	receipts := make([]receipt, len(records))
	for i, sent := range records {
		receipts[i] = receipt{sent.Partition, sent.Offset, sent.Timestamp.UnixMilli()}
	}
	return map[string]any{"receipts": receipts}, nil
}

func consume(ctx context.Context, r request) (any, error) {
	from := map[string]map[int32]kgo.Offset{r.Topic: {r.Partition: kgo.NewOffset().AtStart()}}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(r.Bootstrap),
		kgo.ConsumePartitions(from),
		kgo.FetchMaxWait(100*time.Millisecond),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	records := []record{}
	for len(records) < r.Count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d records: %w", len(records), r.Count, err)
		}
		fetches.EachRecord(func(seen *kgo.Record) {
			timestamp := seen.Timestamp.UnixMilli()
			headers := [][2]*string{}
			for _, header := range seen.Headers {
				headers = append(headers, [2]*string{&header.Key, toHex(header.Value)})
			}
			records = append(records, record{seen.Offset, &timestamp, toHex(seen.Key), toHex(seen.Value), headers})
		})
	}
	return map[string]any{"records": records}, nil
}

func group(ctx context.Context, r request) (any, error) {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(r.Bootstrap),
		kgo.ConsumerGroup(r.Group),
		kgo.ConsumeTopics(r.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.FetchMaxWait(100*time.Millisecond),
	)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	places := [][2]int64{}
	for len(places) < r.Count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return nil, fmt.Errorf("%d of %d records: %w", len(places), r.Count, err)
		}
		fetches.EachRecord(func(seen *kgo.Record) {
			places = append(places, [2]int64{int64(seen.Partition), seen.Offset})
		})
	}
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		return nil, err
	}
	return map[string]any{"places": places}, nil
}

func answer(line []byte) (any, error) {
	var r request
	if err := json.Unmarshal(line, &r); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	switch r.Do {
	case "produce":
		return produce(ctx, r)
	case "consume":
		return consume(ctx, r)
	case "group":
		return group(ctx, r)
	}
	return nil, fmt.Errorf("unknown request %s", r.Do)
}

func main() {
	input := bufio.NewReader(os.Stdin)
	output := json.NewEncoder(os.Stdout)
	for {
		line, err := input.ReadBytes('\n')
		if err != nil {
			return // standard input has ended
		}
		result, err := answer(line)
		if err != nil {
			result = map[string]string{"error": err.Error()}
		}
		if err := output.Encode(result); err != nil {
			return
		}
	}
}
