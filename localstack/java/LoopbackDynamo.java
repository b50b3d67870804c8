import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.concurrent.TimeUnit;
import org.eclipse.jetty.server.Connector;
import org.eclipse.jetty.server.Server;
import org.eclipse.jetty.server.ServerConnector;
import software.amazon.dynamodb.services.local.main.ServerRunner;
import software.amazon.dynamodb.services.local.server.DynamoDBProxyServer;

/**
 * DynamoDB Local, in memory, on 127.0.0.1 alone and on a port that was free. By itself it listens on every interface and
 * has no option against that, so its connectors are set before it starts. Prints the port once it listens.
 *
 * <p>Arguments: the process id whose end is also this one's (0: nobody's), then DynamoDB Local's own.
 */
public class LoopbackDynamo {
    public static void main(String[] args) throws Exception {
        endWith(Long.parseLong(args[0]));
        var options = Arrays.copyOfRange(args, 1, args.length);
        DynamoDBProxyServer proxy = ServerRunner.createServerFromCommandLineArgs(options);
        ServerConnector connector = null;
        for (var field : DynamoDBProxyServer.class.getDeclaredFields()) {
            field.setAccessible(true);
            if (field.get(proxy) instanceof Server server) {
                for (Connector each : server.getConnectors()) {
                    connector = (ServerConnector) each;
                    connector.setHost("127.0.0.1");
                    connector.setPort(0);
                }
            }
        }
        if (connector == null) {
            throw new IllegalStateException("this DynamoDB Local keeps its connectors elsewhere: it would listen to everybody");
        }
        proxy.start();
        System.out.println("port " + connector.getLocalPort());
        proxy.join();
    }

    /** Polls, because a process that is not a child of ours sends no signal. */
    private static void endWith(long owner) {
        if (owner == 0) {
            return;
        }
        var thread = new Thread(() -> {
            while (lives(owner)) {
                try {
                    TimeUnit.MILLISECONDS.sleep(500);
                } catch (InterruptedException e) {
                    break;
                }
            }
            Runtime.getRuntime().halt(0);
        });
        thread.setDaemon(true);
        thread.start();
    }

    /** One that has ended but was not waited for counts as dead; Java alone does not tell it from the living. */
    private static boolean lives(long pid) {
        try {
            var stat = Files.readString(Path.of("/proc/" + pid + "/stat"));
            return stat.charAt(stat.lastIndexOf(')') + 2) != 'Z';
        } catch (IOException e) {
            return ProcessHandle.of(pid).map(ProcessHandle::isAlive).orElse(false);
        }
    }
}
